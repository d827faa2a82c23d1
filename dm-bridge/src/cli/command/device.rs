//! `dm-bridge device`.

use std::path::PathBuf;

use proto::{crypto::random, dm::notification::UserMode, ids::DeviceId};

use super::{
    list::print_pages,
    output::{device_lines, device_table, print},
};
use crate::{
    api::responses::{DeviceBody, DeviceDetailBody, PageBody},
    app::{
        AppError,
        devices::{self, Enrolment, FreshSecrets},
        enrolment::OwnAccount,
        policy, update_requests,
    },
    cli::args::{
        account::AccountArgs,
        common::{DataDirArgs, OutputArgs},
        device::{DeviceCommandArgs, DeviceVerb, EnrolArgs, NotifyArgs, PolicyArgs},
    },
    fleet::{device::SuspendCommand, store::FleetStore as _},
    notification::{retry::Outcome, target::Target},
    shell::{data_dir::read_text, notify, state::Clock, store::sqlite::SqliteStore},
};

/// Runs a command for devices.
pub(super) async fn run(verb: DeviceVerb) -> Result<String, AppError> {
    match verb {
        DeviceVerb::Enrol(arguments) => enrol(arguments).await,
        DeviceVerb::Notify(arguments) => notify_device(arguments).await,
        DeviceVerb::Suspend(arguments) => set_suspension(arguments, SuspendCommand::Suspend).await,
        DeviceVerb::Resume(arguments) => set_suspension(arguments, SuspendCommand::Resume).await,
        DeviceVerb::Policy(arguments) => set_policy(arguments).await,
        DeviceVerb::Profile { id, profile, data, output } => {
            let profile = data.open()?.profile(&profile)?;
            let store = data.open_store().await?;
            devices::set_profile(&store, Clock.now().utc, &id, &profile).await?;
            show_device(&store, &id, output).await
        }
        DeviceVerb::UpdateRequests { id, policy, data, output } => {
            let store = data.open_store().await?;
            update_requests::set_device(&store, Clock.now().utc, &id, policy).await?;
            show_device(&store, &id, output).await
        }
        DeviceVerb::FirmwareObject { id, uri, data, output } => {
            let store = data.open_store().await?;
            devices::set_firmware_object(&store, Clock.now().utc, &id, uri.as_ref()).await?;
            show_device(&store, &id, output).await
        }
        DeviceVerb::List { data, page, output } => {
            let store = &data.open_store().await?;
            let fetch = async |after: Option<&str>, limit: u32| {
                let rows = store.device_page(after, limit).await?;
                Ok(PageBody::<DeviceBody>::new(rows, limit))
            };
            print_pages(&page, output, ("", ""), fetch, device_table).await
        }
        DeviceVerb::Show { id, data, output } => {
            show_device(&data.open_store().await?, &id, output).await
        }
    }
}

async fn show_device(
    store: &SqliteStore,
    id: &DeviceId,
    output: OutputArgs,
) -> Result<String, AppError> {
    let device = devices::show(store, id).await?;
    let body = DeviceDetailBody::new(&device, &devices::latest_attempts(store, id).await?);
    let body = body.with_notes(devices::notes(store, id).await?);
    Ok(print(output, &body, || device_lines(&body)))
}

async fn set_suspension(
    arguments: DeviceCommandArgs,
    command: SuspendCommand,
) -> Result<String, AppError> {
    let DeviceCommandArgs { id, notify, data, output } = arguments;
    let store = data.open_store().await?;
    devices::set_suspension(&store, Clock.now().utc, &id, Some(command)).await?;
    notify_if_asked(&id, data, notify).await?;
    show_device(&store, &id, output).await
}

async fn set_policy(arguments: PolicyArgs) -> Result<String, AppError> {
    let PolicyArgs { device: DeviceCommandArgs { id, notify, data, output }, values } = arguments;
    let decisions = policy::collect_changes(values)?;
    let store = data.open_store().await?;
    policy::set(&store, Clock.now().utc, &id, &decisions).await?;
    notify_if_asked(&id, data, notify).await?;
    show_device(&store, &id, output).await
}

async fn notify_if_asked(
    id: &DeviceId,
    data: DataDirArgs,
    to: Option<Target>,
) -> Result<(), AppError> {
    let Some(to) = to else { return Ok(()) };
    let (id, interactive) = (id.clone(), false);
    let (sms_gateway, sms_gateway_secret_file) = (None, None);
    notify_device(NotifyArgs { id, data, to, sms_gateway, sms_gateway_secret_file, interactive })
        .await?;
    Ok(())
}

async fn enrol(arguments: EnrolArgs) -> Result<String, AppError> {
    let data = arguments.data.open()?;
    let profile = match &arguments.profile {
        Some(name) => data.profile(name)?,
        None => data.profile_of(arguments.class)?,
    };
    let store = data.store().await?;
    let enrolment = Enrolment {
        id: arguments.id,
        manufacturer: arguments.manufacturer,
        model: arguments.model,
        vendor: arguments.vendor,
        class: arguments.class,
        url: arguments.url,
        encoding: arguments.encoding,
        auth: arguments.account.auth,
        account: own_account(arguments.account)?,
        profile,
        firmware_object: arguments.firmware_object,
    };
    let warnings = enrolment.account.warnings();
    let secrets = FreshSecrets {
        password: random(),
        nonce: random(),
        server_password: random(),
        server_nonce: random(),
    };
    let now = Clock.now().utc;
    let settings = match arguments.again {
        true => devices::enrol_again(&store, now, enrolment, secrets).await?,
        false => devices::enrol(&store, now, enrolment, secrets).await?,
    };
    for warning in warnings {
        proto_cli::note!("dm-bridge: {warning}");
    }
    Ok(settings)
}

fn own_account(arguments: AccountArgs) -> Result<OwnAccount, AppError> {
    let read = |path: Option<PathBuf>| path.map(|path| read_text(&path)).transpose();
    Ok(OwnAccount {
        user: arguments.user,
        password: read(arguments.password_file)?,
        server_id: arguments.server_id,
        server_password: read(arguments.server_password_file)?,
        server_auth: arguments.server_auth,
        certificate: arguments.client_certificate,
    })
}

async fn notify_device(arguments: NotifyArgs) -> Result<String, AppError> {
    let NotifyArgs { id, data, to, sms_gateway, sms_gateway_secret_file, interactive } = arguments;
    let store = data.open_store().await?;
    let secret = sms_gateway_secret_file.map(|path| read_text(&path)).transpose()?;
    let transport = notify::NotifyTransport::open(&to, sms_gateway, secret).await?;
    let mode = if interactive { UserMode::Interactive } else { UserMode::Background };
    let session_id = u16::from_be_bytes(random::<2>()).max(1);
    let attempt = devices::build_notification(&store, &id, mode, session_id).await?;
    match notify::send(&store, &id, &transport, attempt).await? {
        Outcome::Responded { after } => {
            Ok(format!("{} connected after {after} notification(s)\n", id.as_str()))
        }
        Outcome::NoResponse { after } => Err(AppError::Network(format!(
            "{} did not connect after {after} notifications to {to}",
            id.as_str()
        ))),
    }
}

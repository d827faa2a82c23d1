//! `dm-bridge device`.

use proto::{crypto::random, dm::notification::UserMode, ids::DeviceId};

use super::output::{device_table, policy_lines, print};
use crate::{
    api::DeviceBody,
    app::{
        AppError,
        devices::{self, Enrolment, FreshSecrets},
        policy, update_requests,
    },
    cli::args::{
        common::{DataArg, FormArg},
        device::{DeviceVerb, EnrolArgs, NotifyArgs, PolicyArgs, TellArgs},
    },
    fleet::{device::Rest, store::FleetStore as _},
    notify::{Outcome, target::Target},
    shell::{clock::Clock, data_dir::read_text, notify, store::sqlite::SqliteStore},
};

pub(super) async fn run(verb: DeviceVerb) -> Result<String, AppError> {
    match verb {
        DeviceVerb::Enrol(arguments) => enrol(arguments).await,
        DeviceVerb::Notify(arguments) => call(arguments).await,
        DeviceVerb::Suspend(arguments) => rest(arguments, Rest::Suspend).await,
        DeviceVerb::Resume(arguments) => rest(arguments, Rest::Resume).await,
        DeviceVerb::Policy(arguments) => set_policy(arguments).await,
        DeviceVerb::Profile { id, profile, data, form } => {
            let profile = data.open()?.profile(&profile)?;
            let store = data.open_store().await?;
            devices::set_profile(&store, Clock.now().utc, &id, &profile).await?;
            show_device(&store, &id, form).await
        }
        DeviceVerb::OnRequest { id, choice, data, form } => {
            let store = data.open_store().await?;
            update_requests::set_device(&store, Clock.now().utc, &id, choice).await?;
            show_device(&store, &id, form).await
        }
        DeviceVerb::List { data, form } => {
            let bodies: Vec<DeviceBody> =
                data.open_store().await?.devices().await?.iter().map(DeviceBody::from).collect();
            Ok(print(form, &bodies, || device_table(&bodies)))
        }
        DeviceVerb::Show { id, data, form } => {
            show_device(&data.open_store().await?, &id, form).await
        }
    }
}

async fn show_device(
    store: &SqliteStore,
    id: &DeviceId,
    form: FormArg,
) -> Result<String, AppError> {
    let body = DeviceBody::from(&devices::show(store, id).await?);
    Ok(print(form, &body, || device_table(std::slice::from_ref(&body)) + &policy_lines(&body)))
}

async fn rest(arguments: TellArgs, rest: Rest) -> Result<String, AppError> {
    let TellArgs { id, notify, data, form } = arguments;
    let store = data.open_store().await?;
    devices::set_rest(&store, Clock.now().utc, &id, Some(rest)).await?;
    ask_to_come(&id, data, notify).await?;
    show_device(&store, &id, form).await
}

async fn set_policy(arguments: PolicyArgs) -> Result<String, AppError> {
    let PolicyArgs { device: TellArgs { id, notify, data, form }, settings } = arguments;
    let decisions = policy::collect_changes(settings)?;
    let store = data.open_store().await?;
    policy::set(&store, Clock.now().utc, &id, &decisions).await?;
    ask_to_come(&id, data, notify).await?;
    show_device(&store, &id, form).await
}

async fn ask_to_come(id: &DeviceId, data: DataArg, to: Option<Target>) -> Result<(), AppError> {
    let Some(to) = to else { return Ok(()) };
    let (id, interactive) = (id.clone(), false);
    let (sms_gateway, sms_gateway_secret_file) = (None, None);
    call(NotifyArgs { id, data, to, sms_gateway, sms_gateway_secret_file, interactive }).await?;
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
        auth: arguments.auth,
        profile,
    };
    let secrets = FreshSecrets {
        password: random(),
        nonce: random(),
        server_password: random(),
        server_nonce: random(),
    };
    devices::enrol(&store, Clock.now().utc, enrolment, secrets).await
}

async fn call(arguments: NotifyArgs) -> Result<String, AppError> {
    let NotifyArgs { id, data, to, sms_gateway, sms_gateway_secret_file, interactive } = arguments;
    let store = data.open_store().await?;
    let secret = sms_gateway_secret_file.map(|path| read_text(&path)).transpose()?;
    let way = notify::Way::open(&to, sms_gateway, secret).await?;
    let mode = if interactive { UserMode::Interactive } else { UserMode::Background };
    let session_id = u16::from_be_bytes(random::<2>()).max(1);
    let notice = devices::notice(&store, &id, mode, session_id).await?;
    match notify::send(&store, &id, &way, notice).await? {
        Outcome::Came { after } => {
            Ok(format!("{} came after {after} notification(s)\n", id.as_str()))
        }
        Outcome::Silent { after } => Err(AppError::Network(format!(
            "{} did not come after {after} notifications to {to}",
            id.as_str()
        ))),
    }
}

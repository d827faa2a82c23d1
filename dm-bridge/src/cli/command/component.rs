//! `dm-bridge component`.

use proto::{crypto::random, dm::scomo::Operation, ids::DeviceId};

use super::output::{component_lines, print};
use crate::{
    api::responses::ComponentsBody,
    app::{AppError, components, devices},
    cli::args::{
        common::{DataDirArgs, OutputArgs},
        component::{ComponentVerb, OperationArgs},
    },
    shell::{state::Clock, store::sqlite::SqliteStore},
};

/// Runs a command for the software components of a device.
pub(super) async fn run(verb: ComponentVerb) -> Result<String, AppError> {
    let (operation, arguments) = match verb {
        ComponentVerb::List { device, data, output } => return list(&device, &data, output).await,
        ComponentVerb::Install(arguments) => (Operation::Install, arguments),
        ComponentVerb::InstallInactive(arguments) => (Operation::InstallInactive, arguments),
        ComponentVerb::Activate(arguments) => (Operation::Activate, arguments),
        ComponentVerb::Deactivate(arguments) => (Operation::Deactivate, arguments),
        ComponentVerb::Remove(arguments) => (Operation::Remove, arguments),
        ComponentVerb::RemovePackage(arguments) => (Operation::RemovePackage, arguments),
    };
    let OperationArgs { device, id, data, output } = arguments;
    let store = data.open_store().await?;
    let (now, operation) = (Clock.now().utc, (operation, &id));
    components::queue_operation(&store, now, &device, operation, &mut random::<16>).await?;
    show_components(&store, &device, output).await
}

async fn list(
    device: &DeviceId,
    data: &DataDirArgs,
    output: OutputArgs,
) -> Result<String, AppError> {
    let store = data.open_store().await?;
    components::request_inventory(&store, Clock.now().utc, device).await?;
    show_components(&store, device, output).await
}

async fn show_components(
    store: &SqliteStore,
    id: &DeviceId,
    output: OutputArgs,
) -> Result<String, AppError> {
    let device = devices::show(store, id).await?;
    let body = ComponentsBody::new(id, &device.components);
    Ok(print(output, &body, || component_lines(&body)))
}

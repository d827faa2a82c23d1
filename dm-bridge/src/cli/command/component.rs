//! The software components of a device.

use proto::{
    crypto::random,
    dm::scomo::Operation,
    ids::{DeviceId, PackageId},
};

use super::output::{component_lines, print};
use crate::{
    api::ComponentsBody,
    app::{AppError, components, devices},
    cli::args::common::{DataArg, FormArg},
    shell::{clock::Clock, store::sqlite::SqliteStore},
};

/// Shows the components of a device, and has its next DM session read them.
pub(super) async fn list(
    device: &DeviceId,
    data: &DataArg,
    form: FormArg,
) -> Result<String, AppError> {
    let store = data.open_store().await?;
    components::request_inventory(&store, Clock.now().utc, device).await?;
    show_components(&store, device, form).await
}

/// Queues an operation on a component.
pub(super) async fn queue(
    device: &DeviceId,
    operation: (Operation, &PackageId),
    data: &DataArg,
    form: FormArg,
) -> Result<String, AppError> {
    let store = data.open_store().await?;
    components::queue_operation(&store, Clock.now().utc, device, operation, &mut random::<16>)
        .await?;
    show_components(&store, device, form).await
}

async fn show_components(
    store: &SqliteStore,
    id: &DeviceId,
    form: FormArg,
) -> Result<String, AppError> {
    let device = devices::show(store, id).await?;
    let body = ComponentsBody::new(id, &device.components);
    Ok(print(form, &body, || component_lines(&body)))
}

//! `package` and `plan`.

use std::{num::NonZeroUsize, path::Path, thread};

use proto::{
    crypto::sha256,
    ids::{ClassId, ComponentId},
    trust::{
        Component, ComponentEncoding, DocumentKind, Manifest, component_class,
        plan::{PlanHeader, object_key},
    },
};
use serde_json::{Value, json};

use super::args::{PackageOrder, PlanOrder};
use crate::{
    encode::{PlanJob, ReadAt, write_plan},
    failure::{Exit, Failure},
    package::{
        choose::{Wishes, covered_loss_percent, shape_for},
        documents,
    },
    schedule::Schedule,
    shell::{
        answer::answer,
        clock, files, package_dir,
        progress::{Meter, Show, Unit},
    },
    window,
};

/// Threads at most unless the operator asks for more: each needs four source blocks of memory.
const MAX_THREADS: usize = 4;

fn show(json: bool) -> Show {
    if json { Show::Nothing } else { Show::Progress }
}

// spec: oma-003 5.5.1.6.1
pub(super) fn make(order: &PackageOrder) -> Result<(), Failure> {
    let now = clock::now().utc;
    let root = documents::trusted_root(now, &package_dir::read_envelope(&order.root)?)?;
    let expires = window::moment(now, &order.expires)
        .map_err(|text| Exit::Usage.because(format!("--expires: {text}")))?;
    if expires <= now {
        return Err(Exit::Policy.because("--expires lies in the past"));
    }
    let keys: Vec<_> =
        order.key.iter().map(|key| files::read_key(key)).collect::<Result<_, _>>()?;
    keys.iter().try_for_each(|key| documents::check_role(&root, DocumentKind::Manifest, key))?;
    let (image, length) = files::open_image(&order.image)?;
    refuse_to_replace(&order.out)?;
    files::make_directory(&order.out)?;
    let component = ComponentId(0);
    let target = package_dir::component_path(&order.out, component, "img");
    let target = files::Temporary::create(&target)?;
    let meter = Meter::new(show(order.json), "copying", length, Unit::Octets);
    let digest = files::copy_and_hash(&image, length, Some(&target), &|step| meter.add(step))?;
    meter.finish();
    let manifest = Manifest {
        sequence: order.sequence,
        floor_after_commit: order.floor,
        vendor: order.vendor,
        classes: classes(order),
        firmware_version: order.version.clone(),
        components: vec![Component {
            id: component,
            stored_len: length,
            stored_sha256: digest,
            encoding: ComponentEncoding::None,
            decoded_len: length,
            decoded_sha256: digest,
            memory_needed: 0,
        }],
        not_before: now,
        expires,
        root_version: root.version,
        epoch: root.epoch,
    };
    let payload = manifest.emit().map_err(|error| Failure::trust("manifest", error))?;
    let manifest_sha256 = sha256(&[&payload]);
    let envelope = documents::signed(DocumentKind::Manifest, payload, &keys)?;
    if !order.unsigned {
        Manifest::verify(&root, &envelope)
            .map_err(|error| Failure::trust("manifest would not be believed", error))?;
    }
    target.publish()?;
    files::replace(&package_dir::manifest_path(&order.out), &envelope)?;
    let value = json!({
        "package": order.out.display().to_string(),
        "version": order.version,
        "sequence": order.sequence,
        "image_bytes": length,
        "image_sha256": digest.to_string(),
        "manifest_sha256": manifest_sha256.to_string(),
    });
    answer(order.json, &value);
    Ok(())
}

/// Devices take a component by a class of its own, so that it is never taken for firmware.
fn classes(order: &PackageOrder) -> Vec<ClassId> {
    let class = |class: &ClassId| match &order.component {
        Some(component) => component_class(*class, component),
        None => *class,
    };
    order.class.iter().map(class).collect()
}

/// A campaign may have been signed for the package that lies there, and be on air.
fn refuse_to_replace(out: &Path) -> Result<(), Failure> {
    let manifest = package_dir::manifest_path(out);
    if !manifest.exists() {
        return Ok(());
    }
    let text = format!("--out: {} holds a package; name another directory", out.display());
    Err(Exit::Conflict.because(text))
}

pub(super) fn plan(order: &PlanOrder) -> Result<(), Failure> {
    let (manifest, _) = package_dir::read_manifest(&order.dir)?;
    let plans: Vec<Value> = manifest
        .components
        .iter()
        .map(|component| plan_component(order, component))
        .collect::<Result<_, _>>()?;
    if order.json {
        println!("{}", Value::Array(plans));
    } else {
        plans.iter().for_each(|plan| answer(false, plan));
    }
    Ok(())
}

fn plan_component(order: &PlanOrder, component: &Component) -> Result<Value, Failure> {
    let (image, length) =
        files::open_image(&package_dir::component_path(&order.dir, component.id, "img"))?;
    let what = format!("component {}", component.id.0);
    if length != component.stored_len {
        let expected = component.stored_len;
        let text = format!("{what}: the image has {length} octets, the manifest says {expected}");
        return Err(Exit::Refused.because(text));
    }
    let shape = shape_for(
        length,
        Wishes {
            symbol_size: order.symbol_size,
            max_block_symbols: order.max_block_symbols,
            factor: order.factor,
            loss_budget_percent: order.loss_budget,
        },
    )?;
    let meter = Meter::new(show(order.json), "checking", length, Unit::Octets);
    let digest = files::copy_and_hash(&image, length, None, &|step| meter.add(step))?;
    meter.finish();
    if digest != component.stored_sha256 {
        let text = format!("{what}: the image is not the one that the manifest was signed for");
        return Err(Exit::Refused.because(text));
    }
    let schedule = Schedule::new(shape);
    let path = package_dir::component_path(&order.dir, component.id, "plan");
    let header = write(order, &image, component, schedule, &path)?;
    let octets = header.emit();
    files::replace(&package_dir::component_path(&order.dir, component.id, "header"), &octets)?;
    let parameters = shape.oti().parameters();
    Ok(json!({
        "component": component.id.0,
        "plan": path.display().to_string(),
        "plan_root": header.root().to_string(),
        "plan_bytes": schedule.file_octets(),
        "bytes_per_pass": schedule.pass_octets(),
        "symbol_bytes": parameters.symbol_size,
        "source_blocks": parameters.source_blocks,
        "block_symbols": shape.partition().largest(),
        "repair_per_block": shape.parameters().repair_per_block,
        "symbols": shape.leaves(),
        "segments": shape.segments(),
        "covered_loss_percent": (covered_loss_percent(&shape) * 10.0).round() / 10.0,
    }))
}

fn write(
    order: &PlanOrder,
    image: &dyn ReadAt,
    component: &Component,
    schedule: Schedule,
    path: &Path,
) -> Result<PlanHeader, Failure> {
    let shape = schedule.shape();
    let target = files::Temporary::create(path)?;
    target.reserve(schedule.file_octets())?;
    let meter = Meter::new(show(order.json), "coding", shape.leaves(), Unit::Symbols);
    let job = PlanJob {
        schedule,
        object_key: object_key(&component.stored_sha256, shape.oti()),
        image,
        plan: target.file(),
        threads: order.threads.unwrap_or_else(default_threads),
        progress: &|step| meter.add(step),
    };
    let header = write_plan(&job);
    let header = header.map_err(|error| Failure::io(path.display().to_string(), error))?;
    meter.finish();
    target.publish()?;
    Ok(header)
}

fn default_threads() -> NonZeroUsize {
    let most = NonZeroUsize::new(MAX_THREADS).expect("4");
    thread::available_parallelism().map_or(NonZeroUsize::MIN, |cores| cores.min(most))
}

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

use super::args::{PackageArgs, PlanArgs};
use crate::{
    error::{CliError, ExitCode},
    package::documents,
    plan::{
        encode::{PlanJob, ReadAt, write_plan},
        parameters::{PlanOptions, covered_loss_percent, shape_for},
        schedule::Schedule,
    },
    shell::{
        answer::{answer, print},
        clock, files, package_dir,
        progress::{ProgressMeter, ProgressOutput, Unit},
    },
    window,
};

/// Threads at most unless the operator sets more: each needs four source blocks of memory.
const MAX_THREADS: usize = 4;

fn show(json: bool) -> ProgressOutput {
    if json { ProgressOutput::Hidden } else { ProgressOutput::Shown }
}

// spec: oma-003 5.5.1.6.1
pub(super) fn make(args: &PackageArgs) -> Result<(), CliError> {
    let now = clock::now().utc;
    let root = documents::trusted_root(now, &package_dir::read_envelope(&args.root)?)?;
    let expires = window::moment(now, &args.expires)
        .map_err(|text| ExitCode::Usage.with_message(format!("--expires: {text}")))?;
    window::check_ahead(now, "--expires", expires)
        .map_err(|why| ExitCode::Policy.with_message(why))?;
    let keys: Vec<_> = args.key.iter().map(|key| files::read_key(key)).collect::<Result<_, _>>()?;
    keys.iter().try_for_each(|key| documents::check_role(&root, DocumentKind::Manifest, key))?;
    let (image, length) = files::open_image(&args.image)?;
    refuse_to_replace(&args.out)?;
    files::make_directory(&args.out)?;
    let component = ComponentId(0);
    let target = package_dir::component_path(&args.out, component, "img");
    let target = files::Temporary::create(&target)?;
    let meter = ProgressMeter::new(show(args.json), "copying", length, Unit::Octets);
    let digest = files::copy_and_hash(&image, length, Some(&target), &|step| meter.add(step))?;
    meter.finish();
    let manifest = Manifest {
        sequence: args.sequence,
        floor_after_commit: args.floor,
        vendor: args.vendor,
        classes: classes(args),
        firmware_version: args.version.clone(),
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
    let payload = manifest.emit().map_err(|error| CliError::trust("manifest", error))?;
    let manifest_sha256 = sha256(&[&payload]);
    let envelope = documents::signed(DocumentKind::Manifest, payload, &keys)?;
    if !args.unsigned {
        Manifest::verify(&root, &envelope)
            .map_err(|error| CliError::trust("manifest would not be accepted", error))?;
    }
    target.persist()?;
    files::replace(&package_dir::manifest_path(&args.out), &envelope)?;
    let value = json!({
        "package": args.out.display().to_string(),
        "version": args.version,
        "sequence": args.sequence,
        "image_bytes": length,
        "image_sha256": digest.to_string(),
        "manifest_sha256": manifest_sha256.to_string(),
    });
    answer(args.json, &value)
}

/// A component has a class of its own, so that no device installs it as firmware.
fn classes(args: &PackageArgs) -> Vec<ClassId> {
    let class = |class: &ClassId| match &args.component {
        Some(component) => component_class(*class, component),
        None => *class,
    };
    args.class.iter().map(class).collect()
}

/// A campaign may have been signed for the package in that directory, and be on air.
fn refuse_to_replace(out: &Path) -> Result<(), CliError> {
    let manifest = package_dir::manifest_path(out);
    if !manifest.exists() {
        return Ok(());
    }
    let text = format!("--out: {} holds a package; name another directory", out.display());
    Err(ExitCode::Conflict.with_message(text))
}

pub(super) fn plan(args: &PlanArgs) -> Result<(), CliError> {
    let (manifest, _) = package_dir::read_manifest(&args.dir)?;
    let plans: Vec<Value> = manifest
        .components
        .iter()
        .map(|component| plan_component(args, component))
        .collect::<Result<_, _>>()?;
    if args.json {
        print(format_args!("{}\n", Value::Array(plans)))
    } else {
        plans.iter().try_for_each(|plan| answer(false, plan))
    }
}

fn plan_component(args: &PlanArgs, component: &Component) -> Result<Value, CliError> {
    let (image, length) =
        files::open_image(&package_dir::component_path(&args.dir, component.id, "img"))?;
    let what = format!("component {}", component.id.0);
    if length != component.stored_len {
        let expected = component.stored_len;
        let text = format!("{what}: the image has {length} octets, the manifest says {expected}");
        return Err(ExitCode::Refused.with_message(text));
    }
    let shape = shape_for(
        length,
        PlanOptions {
            symbol_size: args.symbol_size,
            max_block_symbols: args.max_block_symbols,
            factor: args.factor,
            loss_budget_percent: args.loss_budget,
        },
    )?;
    let meter = ProgressMeter::new(show(args.json), "checking", length, Unit::Octets);
    let digest = files::copy_and_hash(&image, length, None, &|step| meter.add(step))?;
    meter.finish();
    if digest != component.stored_sha256 {
        let text = format!("{what}: the image is not the one that the manifest was signed for");
        return Err(ExitCode::Refused.with_message(text));
    }
    let schedule = Schedule::new(shape);
    let path = package_dir::component_path(&args.dir, component.id, "plan");
    let header = write(args, &image, component, schedule, &path)?;
    let octets = header.emit();
    files::replace(&package_dir::component_path(&args.dir, component.id, "header"), &octets)?;
    let parameters = shape.oti().parameters();
    Ok(json!({
        "component": component.id.0,
        "plan": path.display().to_string(),
        "plan_root": header.root().to_string(),
        "plan_bytes": schedule.file_bytes(),
        "bytes_per_pass": schedule.pass_bytes(),
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
    args: &PlanArgs,
    image: &dyn ReadAt,
    component: &Component,
    schedule: Schedule,
    path: &Path,
) -> Result<PlanHeader, CliError> {
    let shape = schedule.shape();
    let target = files::Temporary::create(path)?;
    target.preallocate(schedule.file_bytes())?;
    let meter = ProgressMeter::new(show(args.json), "coding", shape.leaves(), Unit::Symbols);
    let job = PlanJob {
        schedule,
        object_key: object_key(&component.stored_sha256, shape.oti()),
        image,
        plan: target.file(),
        threads: args.threads.unwrap_or_else(default_threads),
        progress: &|step| meter.add(step),
    };
    let header = write_plan(&job);
    let header = header.map_err(|error| CliError::io(path.display().to_string(), error))?;
    meter.finish();
    target.persist()?;
    Ok(header)
}

fn default_threads() -> NonZeroUsize {
    let most = NonZeroUsize::new(MAX_THREADS).expect("4");
    thread::available_parallelism().map_or(NonZeroUsize::MIN, |cores| cores.min(most))
}

//! `dm-bridge campaign`.

use std::{collections::BTreeMap, path::Path};

use proto::{crypto::random, ids::CampaignId, time::Utc};

use super::{
    list::print_pages,
    output::{print, push_line},
};
use crate::{
    api::responses::{CampaignBody, CampaignDeviceBody, PageBody},
    app::{
        AppError,
        campaigns::{self, CreateCampaign, PackageKeeper, Selection},
        status, time_args, update_requests,
    },
    campaign::{
        model::{BroadcastTarget, CampaignParameters, Delivery, DeliveryMethod, Software},
        verify::Documents,
    },
    cli::args::{
        campaign::{CampaignVerb, CreateArgs},
        common::{OutputArgs, PageArgs, plain_http},
    },
    shell::{
        data_dir::{BundleFile, absolute, read_bundle, read_file, read_text, read_token},
        state::Clock,
        store::sqlite::SqliteStore,
    },
};

/// Runs a command for campaigns.
pub(super) async fn run(verb: CampaignVerb) -> Result<String, AppError> {
    let now = Clock.now().utc;
    match verb {
        CampaignVerb::Create(arguments) => create(*arguments).await,
        CampaignVerb::Start { id, data, opens, closes, output } => {
            let window = (time_args::parse(&opens, now)?, time_args::parse(&closes, now)?);
            let store = data.open_store().await?;
            campaigns::start(&store, now, id, window, &mut random::<16>).await?;
            show(&store, id, output).await
        }
        CampaignVerb::Stop { id, data, output } => {
            let store = data.open_store().await?;
            campaigns::stop(&store, now, id).await?;
            show(&store, id, output).await
        }
        CampaignVerb::UpdateRequests { id, policy, data, output } => {
            let store = data.open_store().await?;
            update_requests::set_campaign(&store, now, id, policy).await?;
            show(&store, id, output).await
        }
        CampaignVerb::Status { id: Some(id), data, page, output } => {
            let store = data.open_store().await?;
            campaign_with_devices(&store, id, &page, output).await
        }
        CampaignVerb::Status { id: None, data, page, output } => {
            let store = &data.open_store().await?;
            let fetch = async |after: Option<&str>, limit: u32| {
                let rows = status::campaign_page(store, after, limit).await?;
                Ok(PageBody::<CampaignBody>::new(rows, limit))
            };
            let lines = |bodies: &[CampaignBody]| bodies.iter().map(campaign_lines).collect();
            print_pages(&page, output, ("", ""), fetch, lines).await
        }
    }
}

async fn create(arguments: CreateArgs) -> Result<String, AppError> {
    let store = arguments.data.open_store().await?;
    let plain_http = plain_http(arguments.insecure_http);
    // A wrong path is an error here, not when the campaign starts.
    read_token(&arguments.carousel_token_file)?;
    let mut plan_headers = BTreeMap::new();
    for (component, path) in &arguments.plan_header {
        plan_headers.insert(*component, read_file(path)?);
    }
    let documents = Documents {
        roots: arguments.root.iter().map(|path| read_file(path)).collect::<Result<_, _>>()?,
        manifest: read_file(&arguments.manifest)?,
        campaign: read_file(&arguments.campaign)?,
        plan_headers,
    };
    let bundle_bytes = match &arguments.package {
        None => 0,
        Some(path) => {
            let (head, bytes) = read_bundle(path)?;
            if head.manifest != documents.manifest || head.campaign != documents.campaign {
                let text = format!("{} has other documents", path.display());
                return Err(AppError::Policy(text));
            }
            bytes
        }
    };
    let methods = methods(arguments.delivery, &arguments.fallback)?;
    let operation = arguments.operation;
    let software = arguments.component.map(|package| Software { package, operation });
    let request = CreateCampaign {
        documents,
        parameters: CampaignParameters {
            target: BroadcastTarget {
                carousel_url: arguments.carousel,
                token_file: absolute(&arguments.carousel_token_file)?,
                group: arguments.group,
                port: arguments.port,
            },
            delivery: Delivery { methods, bundle_bytes, ask_user: arguments.ask_user, software },
            update_requests: arguments.update_requests,
        },
        plain_http,
        selection: selection(&arguments.devices)?,
        report_spread_seconds: arguments.report_spread,
    };
    let package = match &arguments.package {
        Some(from) => Some(BundleFile { data: arguments.data.open()?, from: from.clone() }),
        None => None,
    };
    let package = package.as_ref().map(|package| package as &dyn PackageKeeper);
    let (now, random) = (Clock.now().utc, &mut random::<16>);
    let id = campaigns::create_with_package(&store, now, request, random, package).await?;
    show(&store, id, arguments.output).await
}

/// Returns the first delivery method, followed by the fallbacks.
fn methods(first: DeliveryMethod, others: &[String]) -> Result<Vec<DeliveryMethod>, AppError> {
    let mut methods = vec![first];
    for word in others.iter().filter(|word| *word != "none") {
        let method = word.parse()?;
        if methods.contains(&method) {
            return Err(AppError::Usage(format!("delivery method {word} is given twice")));
        }
        methods.push(method);
    }
    Ok(methods)
}

fn selection(text: &str) -> Result<Selection, AppError> {
    if text == "all" {
        return Ok(Selection::All);
    }
    let listed = match text.strip_prefix('@') {
        Some(path) => read_text(Path::new(path))?,
        None => text.replace(',', "\n"),
    };
    let names = listed.lines().map(str::trim).filter(|name| !name.is_empty());
    Ok(Selection::Named(names.map(str::parse).collect::<Result<_, _>>()?))
}

async fn show(store: &SqliteStore, id: CampaignId, output: OutputArgs) -> Result<String, AppError> {
    let body = CampaignBody::from(&status::campaign(store, id).await?);
    Ok(print(output, &body, || campaign_lines(&body)))
}

/// Prints a campaign with its devices, which are a field of it in JSON.
async fn campaign_with_devices(
    store: &SqliteStore,
    id: CampaignId,
    page: &PageArgs,
    output: OutputArgs,
) -> Result<String, AppError> {
    let campaign = CampaignBody::from(&status::campaign(store, id).await?);
    let json = serde_json::to_string(&campaign).expect("our own types have string keys");
    let fields = json.strip_suffix('}').unwrap_or(&json);
    let around = match output.json {
        true => (format!("{fields},\"device_list\":"), "}"),
        false => (campaign_lines(&campaign) + &result_heading(), ""),
    };
    let fetch = async |after: Option<&str>, limit: u32| {
        let rows = status::devices_of(store, id, after, limit).await?;
        Ok(PageBody::<CampaignDeviceBody>::new(rows, limit))
    };
    print_pages(page, output, (&around.0, around.1), fetch, result_table).await
}

/// Returns the lines of a campaign.
fn campaign_lines(body: &CampaignBody) -> String {
    // A field of the body is shown here, or is left to `--json`.
    let CampaignBody {
        id,
        epoch: _,
        sequence,
        firmware_version,
        component: _,
        operation: _,
        state,
        opens_utc,
        closes_utc,
        group,
        port,
        source: _,
        tsi: _,
        report_spread_seconds: _,
        update_requests: _,
        last_error,
        devices,
        created_utc: _,
    } = body;
    let time = |seconds: &Option<u64>| {
        seconds.map_or_else(|| "-".to_owned(), |s| time_args::format(Utc::from_seconds(s)))
    };
    let (opens, closes) = (time(opens_utc), time(closes_utc));
    let mut text = format!(
        "{id}  {state}  version {firmware_version}  sequence {sequence}\n  \
         window {opens} to {closes} on {group}:{port}\n",
    );
    let counts: Vec<_> = devices.iter().map(|(phase, n)| format!("{n} {phase}")).collect();
    push_line(&mut text, format_args!("  devices: {}\n", counts.join(", ")));
    if let Some(error) = last_error {
        push_line(&mut text, format_args!("  last error: {error}\n"));
    }
    text
}

fn result_heading() -> String {
    format!(
        "  {:<24} {:<10} {:<16} {:>6} {:<12} {}\n",
        "DEVICE", "DELIVERY", "PHASE", "RESULT", "RUNS", "REASON"
    )
}

/// Returns the table of the devices of a campaign.
fn result_table(bodies: &[CampaignDeviceBody]) -> String {
    let mut text = String::new();
    for body in bodies {
        let code = body.result_code.map_or_else(|| "-".to_owned(), |code| code.to_string());
        let runs = body.firmware_version.as_deref().unwrap_or("-");
        let why = body.result_text.as_deref().unwrap_or_default();
        let (id, delivery, phase) = (body.id.as_str(), &body.delivery, &body.phase);
        push_line(
            &mut text,
            format_args!("  {id:<24} {delivery:<10} {phase:<16} {code:>6} {runs:<12} {why}\n"),
        );
    }
    text
}

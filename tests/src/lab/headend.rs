//! The headend of a run: keys, package, plan and campaign by the public commands, then the two
//! servers as processes.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use prost::Message as _;
use proto::{
    control::{AirStatus, StatusReply, StatusRequest},
    dm::encoding::Encoding,
};
use serde::Deserialize;

use crate::lab::{
    addresses::Addresses,
    documents::Documents,
    folder::Folder,
    image,
    options::Options,
    process::{Process, Role},
    schedule::Schedule,
};

/// Vendor and class of all lab devices.
pub const VENDOR: &str = "fa6b4a53d5ad5fdfbe9de663e4d41ffe";
/// See [`VENDOR`].
pub const CLASS: &str = "1492af1425695e48bf429b2d51f2ab45";

/// Paths of the headend's files.
#[derive(Debug, Clone)]
pub struct Paths {
    keys: PathBuf,
    air: PathBuf,
    bridge: PathBuf,
    scratch: PathBuf,
    logs: PathBuf,
    token: PathBuf,
}

/// A signed package with its plan, where the image server finds it.
#[derive(Debug)]
pub struct Package {
    /// Its folder.
    pub folder: PathBuf,
    /// The root that vouches for it.
    pub root: PathBuf,
    /// Roots before that one, which a device may lack.
    pub earlier_roots: Vec<PathBuf>,
    /// Its documents.
    pub documents: Documents,
}

/// The two servers.
#[derive(Debug)]
pub struct Headend {
    paths: Paths,
    addresses: Addresses,
    carousel: Process,
    bridge: Option<Process>,
}

impl Paths {
    /// Makes the folders of a run.
    ///
    /// # Errors
    ///
    /// When they cannot be made.
    pub fn new(folder: &Folder) -> io::Result<Self> {
        Ok(Self {
            keys: folder.path().join("keys"),
            air: folder.below("air")?,
            bridge: folder.path().join("bridge"),
            scratch: folder.below("scratch")?,
            logs: folder.below("logs")?,
            token: folder.path().join("carousel.token"),
        })
    }

    /// Returns the folder of the logs.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// The factory root.
    pub fn root(&self) -> PathBuf {
        self.keys.join("root.env")
    }

    async fn run(&self, role: Role) -> anyhow::Result<String> {
        role.run(&self.scratch).await
    }
}

/// Makes keys, package, plan and campaign.
///
/// # Errors
///
/// [`crate::lab::exit::CommandFailed`] when a command fails.
pub async fn package(
    paths: &Paths,
    image_file: &Path,
    options: &Options,
    schedule: Schedule,
    addresses: &Addresses,
) -> anyhow::Result<Package> {
    let carousel = || Role::new("carousel");
    let root = paths.root();
    let folder = paths.air.join("package");
    let key = |name: &str| paths.keys.join(name);
    paths.run(carousel()?.args(["trust", "init", "--dir"]).arg(&paths.keys)).await?;

    // A missing image is the packager's to refuse; then there is no digest to name.
    let version = image::digest(image_file).map(|digest| image::version(&digest));
    let package = carousel()?
        .args(["package", "--vendor", VENDOR, "--class", CLASS, "--sequence", "1", "--version"])
        .arg(version.unwrap_or_else(|_| "none".to_owned()))
        .arg("--image")
        .arg(image_file)
        .arg("--key")
        .arg(key("release.key"))
        .arg("--root")
        .arg(&root)
        .arg("--out")
        .arg(&folder);
    paths.run(package).await?;

    let budget = options.loss_budget().to_string();
    paths.run(carousel()?.arg("plan").arg(&folder).args(["--loss-budget", &budget])).await?;

    let longest = schedule.opens_after + schedule.open_for + Duration::from_secs(3600);
    let campaign = carousel()?
        .args(["campaign", "build"])
        .arg(&folder)
        .args(["--source", &addresses.interface.to_string(), "--not-before", "now"])
        .args(["--latest-stop", &format!("+{}s", longest.as_secs()), "--sequence", "1"])
        .arg("--key")
        .arg(key("campaign.key"))
        .arg("--root")
        .arg(&root);
    paths.run(campaign).await?;

    let documents = Documents::read(&folder, &root)?;
    let place = paths.air.join(documents.campaign.to_string());
    fs::rename(&folder, &place).with_context(|| place.display().to_string())?;
    Ok(Package { folder: place, root, earlier_roots: Vec::new(), documents })
}

impl Headend {
    /// Starts both servers.
    ///
    /// # Errors
    ///
    /// When one does not start.
    pub async fn start(
        paths: Paths,
        addresses: Addresses,
        options: &Options,
    ) -> anyhow::Result<Self> {
        let token: String = proto::crypto::random::<16>().map(|b| format!("{b:02x}")).concat();
        write_secret(&paths.token, &token)?;
        let carousel = Role::new("carousel")?
            .args(["serve", "--data"])
            .arg(&paths.air)
            .args(["--listen", &addresses.carousel.to_string(), "--root"])
            .arg(paths.root())
            .arg("--token-file")
            .arg(&paths.token)
            .args(["--interface", &addresses.interface.to_string()])
            .args(["--source", &addresses.interface.to_string()])
            .args(["--rate", &options.rate.0.to_string()])
            .start(&paths.logs.join("carousel.log"))?;
        paths.run(Role::new("dm-bridge")?.args(["init", "--data"]).arg(&paths.bridge)).await?;
        let mut headend = Self { paths, addresses, carousel, bridge: None };
        headend.start_bridge().await?;
        wait_for(addresses.carousel, &mut headend.carousel).await?;
        Ok(headend)
    }

    /// Starts the management server, for the first time or again.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub async fn start_bridge(&mut self) -> anyhow::Result<()> {
        let role = Role::new("dm-bridge")?
            .args(["serve", "--data"])
            .arg(&self.paths.bridge)
            .args(["--listen", &self.addresses.bridge.to_string()]);
        let mut process = role.start(&self.paths.logs.join("dm-bridge.log"))?;
        wait_for(self.addresses.bridge, &mut process).await?;
        self.bridge = Some(process);
        Ok(())
    }

    /// Kills the management server.
    pub fn stop_bridge(&mut self) {
        self.bridge = None;
    }

    /// Returns whether the management server runs.
    pub const fn has_bridge(&self) -> bool {
        self.bridge.is_some()
    }

    /// Enrols a device and returns what the command prints: its configuration.
    ///
    /// # Errors
    ///
    /// When the command fails.
    pub async fn enrol(&self, id: &str, encoding: Encoding) -> anyhow::Result<String> {
        let url = format!("http://{}/dm", self.addresses.bridge);
        let role = Role::new("dm-bridge")?
            .args(["device", "enrol", id, "--url", &url, "--vendor", VENDOR, "--class", CLASS])
            .args(["--encoding", &encoding.to_string()])
            .args(["--manufacturer", "fumocast", "--model", "lab", "--data"])
            .arg(&self.paths.bridge);
        self.paths.run(role).await
    }

    /// Notifies a device to start a session (package 0); returns how the command ended.
    ///
    /// # Errors
    ///
    /// When the command cannot be run, or the device does not connect.
    pub async fn notify(&self, id: &str, to: SocketAddr) -> anyhow::Result<String> {
        let role = Role::new("dm-bridge")?
            .args(["device", "notify", id, "--to", &to.to_string(), "--data"])
            .arg(&self.paths.bridge);
        self.paths.run(role).await
    }

    /// Creates and starts the campaign for these devices.
    ///
    /// # Errors
    ///
    /// When a command fails.
    pub async fn start_campaign(
        &self,
        package: &Package,
        devices: &[String],
        schedule: Schedule,
        report_spread: u32,
    ) -> anyhow::Result<()> {
        let file = |name: &str| package.folder.join(name);
        let component = package.documents.object.component.0;
        let mut header = std::ffi::OsString::from(format!("{component}="));
        header.push(file(&format!("{component}.header")));
        let earlier = package.earlier_roots.iter();
        let earlier = earlier.flat_map(|root| [std::ffi::OsStr::new("--root"), root.as_os_str()]);
        let create = Role::new("dm-bridge")?
            .args(["campaign", "create", "--data"])
            .arg(&self.paths.bridge)
            .arg("--campaign")
            .arg(file("campaign.env"))
            .arg("--manifest")
            .arg(file("manifest.env"))
            .arg("--plan-header")
            .arg(header)
            .arg("--root")
            .arg(&package.root)
            .args(earlier)
            .args(["--carousel", &format!("http://{}", self.addresses.carousel)])
            .arg("--carousel-token-file")
            .arg(&self.paths.token)
            .args(["--group", &self.addresses.channel.ip().to_string()])
            .args(["--port", &self.addresses.channel.port().to_string()])
            .args(["--devices", &devices.join(","), "--report-spread", &report_spread.to_string()]);
        self.paths.run(create).await?;

        let id = package.documents.campaign.to_string();
        let opens = schedule.opens_after.as_secs();
        let closes = opens + schedule.open_for.as_secs();
        let start = Role::new("dm-bridge")?
            .args(["campaign", "start", &id, "--data"])
            .arg(&self.paths.bridge)
            .args(["--opens", &format!("+{opens}s"), "--closes", &format!("+{closes}s")]);
        self.paths.run(start).await?;
        Ok(())
    }

    /// Fails when a server has ended by itself.
    ///
    /// # Errors
    ///
    /// With its last words.
    pub fn check_running(&mut self) -> anyhow::Result<()> {
        self.carousel.check_running()?;
        self.bridge.iter_mut().try_for_each(Process::check_running)
    }

    /// Returns the most memory that the image server ever held, in octets.
    pub fn carousel_peak_rss_bytes(&self) -> u64 {
        self.carousel.peak_rss_bytes().unwrap_or(0)
    }

    /// Reads the status of the campaign's session from the image server; `None` before there is
    /// one.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn air(&self, package: &Package) -> anyhow::Result<Option<AirStatus>> {
        // Of all sessions, as one that is not prepared yet would be an error.
        let request = StatusRequest::default().encode_to_vec();
        let answer = self.control("status", request).await?.context("status is refused")?;
        let reply = StatusReply::decode(answer.as_slice())?;
        let campaign = package.documents.campaign.0;
        Ok(reply.sessions.into_iter().find(|session| session.campaign_id == campaign))
    }

    /// Returns whether the management server has prepared the session, so that devices are armed with
    /// it: the image server has compared the plan by then.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn is_prepared(&self, package: &Package) -> anyhow::Result<bool> {
        #[derive(Deserialize)]
        struct Campaign {
            tsi: Option<u64>,
        }
        let path = format!("campaigns/{}", package.documents.campaign);
        let answer = self.api(&path, None).await?.context("the campaign is refused")?;
        Ok(serde_json::from_str::<Campaign>(&answer)?.tsi.is_some())
    }

    /// Reads the phases of the campaign's devices from the management server's API.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn results(&self, package: &Package) -> anyhow::Result<Results> {
        #[derive(Deserialize)]
        struct Row {
            id: String,
            #[serde(flatten)]
            standing: CampaignDevice,
        }
        #[derive(Deserialize)]
        struct Page {
            items: Vec<Row>,
            next: Option<String>,
        }
        let (mut results, mut after) = (Results::new(), String::new());
        loop {
            let id = &package.documents.campaign;
            let path = format!("campaigns/{id}/devices?limit=1000&after={after}");
            let answer = self.api(&path, None).await?.context("results are refused")?;
            let Page { items, next } = serde_json::from_str(&answer)?;
            results.extend(items.into_iter().map(|row| (row.id, row.standing)));
            let Some(next) = next else { return Ok(results) };
            after = next;
        }
    }
}

/// An answer, or why there is none.
pub type Answer<T> = Result<T, Refused>;

/// A refusal of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// HTTP status.
    pub status: u16,
    /// Its body.
    pub text: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.status, self.text)
    }
}

impl std::error::Error for Refused {}

impl Headend {
    /// Calls an operation of the image server's control API.
    ///
    /// # Errors
    ///
    /// When the server does not answer.
    pub async fn control(&self, operation: &str, body: Vec<u8>) -> anyhow::Result<Answer<Vec<u8>>> {
        let url = format!("http://{}/control/v1/{operation}", self.addresses.carousel);
        let token = fs::read_to_string(&self.paths.token)?;
        in_background(move || {
            let request = ureq::post(&url)
                .config()
                .http_status_as_error(false)
                .build()
                .header("Authorization", format!("Bearer {}", token.trim()))
                .header("Content-Type", proto::control::CONTENT_TYPE);
            answer(request.send(&body)?)
        })
        .await
    }

    /// Calls the management server's API: GET, or POST when there is a body.
    ///
    /// # Errors
    ///
    /// When the server does not answer.
    pub async fn api(&self, path: &str, body: Option<String>) -> anyhow::Result<Answer<String>> {
        let url = format!("http://{}/api/v1/{path}", self.addresses.bridge);
        let token = fs::read_to_string(self.paths.bridge.join("admin.token"))?;
        let token = format!("Bearer {}", token.trim());
        let octets = in_background(move || {
            let config = |url: &str| ureq::get(url).config().http_status_as_error(false).build();
            answer(match body {
                None => config(&url).header("Authorization", token).call()?,
                Some(body) => ureq::post(&url)
                    .config()
                    .http_status_as_error(false)
                    .build()
                    .header("Authorization", token)
                    .header("Content-Type", "application/json")
                    .send(body)?,
            })
        });
        Ok(octets.await?.map(|octets| String::from_utf8_lossy(&octets).into_owned()))
    }
}

fn answer(response: ureq::http::Response<ureq::Body>) -> anyhow::Result<Answer<Vec<u8>>> {
    let status = response.status();
    let octets = response.into_body().read_to_vec()?;
    if status.is_success() {
        return Ok(Ok(octets));
    }
    let text = String::from_utf8_lossy(&octets).into_owned();
    Ok(Err(Refused { status: status.as_u16(), text }))
}

/// Runs blocking work beside the loop.
async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await?
}

async fn wait_for(place: SocketAddr, process: &mut Process) -> anyhow::Result<()> {
    for _ in 0..STEPS {
        process.check_running()?;
        if tokio::net::TcpStream::connect(place).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(STEP).await;
    }
    bail!("nothing listens on {place}: {}", process.last_words())
}

fn write_secret(path: &Path, secret: &str) -> anyhow::Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let file = fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path);
    let mut file = file.with_context(|| path.display().to_string())?;
    Ok(file.write_all(secret.as_bytes())?)
}

const STEP: Duration = Duration::from_millis(20);
/// Ten seconds of steps.
const STEPS: u32 = 500;

/// Phases of the devices of the campaign, by the management server's API.
pub type Results = BTreeMap<String, CampaignDevice>;

/// Phase of one device at the management server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct CampaignDevice {
    /// Its phase; after a success `reported`, and `confirmed` once the version was read back.
    pub phase: String,
    /// Its result.
    pub result_code: Option<u16>,
}

impl CampaignDevice {
    /// Returns whether nothing more will come: a result, and for a success the version read back.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.result_code.is_some() && self.phase != "reported"
    }
}

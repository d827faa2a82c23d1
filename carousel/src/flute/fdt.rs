//! FDT instances of a session: ids, expiry, and the packets that carry them.

use std::time::Duration;

use proto::{
    fec::oti::{NoCodeOti, Oti},
    flute::{
        alc::{Packet, Payload, PayloadId},
        ext::{ExtensionWriter, FLUTE_VERSION, FdtHeader},
        fdt::{FdtInstance, FileEntry, NAMESPACE, mbms::InstanceExtensions, skipped::Skipped},
        lct::{Extensions, Header, Widths},
    },
    ids::{CampaignId, Esi, Sbn, Toi, Tsi},
    time::Utc,
    trust::PlannedObject,
};

/// The form of the instances of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FdtProfile {
    /// FLUTE version in EXT_FDT.
    pub version: u8,
    /// Namespace of the document.
    pub namespace: &'static str,
    /// Widths of TSI and TOI.
    pub widths: Widths,
    /// Octets of a symbol; with all headers a packet stays within 1,472 octets up to 1,408.
    pub symbol_bytes: u16,
    /// Set when instances announce that later ones add nothing.
    pub complete: bool,
}

impl Default for FdtProfile {
    /// FLUTE version 2 with TSI and TOI of 32 bits.
    fn default() -> Self {
        Self {
            // spec: rfc6726 3.1 (this product sends version 2)
            version: FLUTE_VERSION,
            namespace: NAMESPACE,
            widths: Widths::WIDE,
            symbol_bytes: 1408,
            complete: true,
        }
    }
}

/// The validity of an instance.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// An instance is replaced when less than this is left of it.
const RENEWAL: Duration = Duration::from_secs(12 * 3600);

/// FDT Instance IDs have 20 bits.
const INSTANCE_IDS: u32 = 1 << 20;

/// Media type of a component's image.
pub const IMAGE_TYPE: &str = "application/octet-stream";
/// Media type of a component's symbol tables.
pub const TABLES_TYPE: &str = "application/vnd.fumocast.symtab";
/// Media type of a component's plan header.
pub const PLAN_TYPE: &str = "application/vnd.fumocast.plan";

/// Returns the FEC parameters of a plan header: one No-Code symbol.
///
/// # Panics
///
/// Never: a plan header has 80 to 1,088 octets.
#[must_use]
pub fn plan_header_oti(plan_header: &[u8]) -> Oti {
    let length = u16::try_from(plan_header.len()).expect("a plan header has at most 1,088 octets");
    let oti = NoCodeOti::new(length.into(), length, 1);
    Oti::NoCode(oti.expect("a plan header is not empty"))
}

/// Returns the entries of a component: its image, its tables and its plan header.
#[must_use]
pub fn entries(
    campaign: CampaignId,
    object: &PlannedObject,
    tables: Oti,
    plan_header: &[u8],
) -> [FileEntry; 3] {
    let component = object.component;
    let location = |kind: &str| format!("{campaign}/{}.{kind}", component.0);
    let image = Oti::RaptorQ(object.oti);
    let header = plan_header_oti(plan_header);
    [
        FileEntry::plain(Toi::object(component), location("img"), IMAGE_TYPE, image),
        FileEntry::plain(Toi::tables(component), location("symtab"), TABLES_TYPE, tables),
        FileEntry::plain(Toi::plan_header(component), location("plan"), PLAN_TYPE, header),
    ]
}

/// The generator of the FDT instances of one session.
#[derive(Debug, Clone)]
pub struct FdtGenerator {
    tsi: Tsi,
    profile: FdtProfile,
    files: Vec<FileEntry>,
    instance_id: u32,
    expires: Utc,
    packets: Vec<Vec<u8>>,
}

impl FdtGenerator {
    /// Generates a first instance with the id `instance_id`, which no earlier one of the session
    /// had.
    ///
    /// # Panics
    ///
    /// When the session has so many files that its table would exceed 64 KiB; a campaign has at
    /// most 48.
    #[must_use]
    pub fn new(now: Utc, tsi: Tsi, files: Vec<FileEntry>, instance_id: u32) -> Self {
        Self::with_profile(now, tsi, files, instance_id, FdtProfile::default())
    }

    /// Like [`Self::new`], in another profile than this product's own.
    ///
    /// # Panics
    ///
    /// Like [`Self::new`], and when the TSI does not fit the profile's widths.
    #[must_use]
    pub fn with_profile(
        now: Utc,
        tsi: Tsi,
        files: Vec<FileEntry>,
        instance_id: u32,
        profile: FdtProfile,
    ) -> Self {
        let instance_id = instance_id % INSTANCE_IDS;
        let packets = Vec::new();
        let mut generator = Self { tsi, profile, files, instance_id, expires: now, packets };
        generator.generate(now);
        generator
    }

    /// Generates a new instance when the current one is soon to expire.
    pub fn reissue_if_due(&mut self, now: Utc) {
        if self.expires.since(now) < RENEWAL {
            // spec: rfc6726 3.4.1 (ids go up by one; a wrap meets ids that expired long ago)
            self.instance_id = (self.instance_id + 1) % INSTANCE_IDS;
            self.generate(now);
        }
    }

    /// Returns the id that the next instance may have.
    #[must_use]
    pub const fn next_instance_id(&self) -> u32 {
        (self.instance_id + 1) % INSTANCE_IDS
    }

    /// Returns the packets of the current instance; repeats are identical.
    #[must_use]
    pub fn packets(&self) -> &[Vec<u8>] {
        &self.packets
    }

    fn generate(&mut self, now: Utc) {
        // spec: rfc6726 3.3 (an instance expires in the future of its sender)
        self.expires = now + LIFETIME;
        // spec: rfc6726 3.2 (every file of the session has its entry)
        let document = FdtInstance {
            expires_ntp: self.expires.ntp_seconds(),
            complete: self.profile.complete,
            files: self.files.clone(),
            mbms: InstanceExtensions::default(),
            skipped: Skipped::default(),
        }
        .to_xml_in(self.profile.namespace);
        let length = u64::try_from(document.len()).expect("a document fits into memory");
        let size = self.profile.symbol_bytes;
        let symbols = u32::try_from(length.div_ceil(size.into())).expect("at most 64 KiB");
        let oti = NoCodeOti::new(length, size, symbols).expect("an FDT has at most 64 KiB");
        let mut extensions = Vec::new();
        // spec: rfc6726 3.4.1, rfc6726 3.4.3 (EXT_FDT in every packet, EXT_CENC in none)
        ExtensionWriter::new(&mut extensions)
            .fdt(FdtHeader { version: self.profile.version, instance_id: self.instance_id })
            .fti(&Oti::NoCode(oti));
        let extensions = Extensions::new(&extensions).expect("they were just written");
        let header = Header {
            widths: self.profile.widths,
            ..Header::wide(self.tsi, Toi::FDT, proto::fec::ENCODING_ID_NO_CODE)
        };
        let symbols = (0..).zip(document.as_bytes().chunks(size.into()));
        self.packets = symbols
            .map(|(esi, symbols)| {
                let id = PayloadId { sbn: Sbn(0), esi: Esi(esi) };
                let mut packet = Vec::new();
                let payload = Some(Payload { id, symbols });
                Packet { header, extensions, payload }
                    .emit(&mut packet)
                    .expect("the TSI fits its width");
                packet
            })
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use proto::{
        fec::{codec::BlockDecoder as _, nocode::Decoder},
        ids::ComponentId,
    };

    use super::*;
    use crate::plan::encode::tests::sample;

    fn files(components: u8) -> Vec<FileEntry> {
        let sample = sample();
        let tables = Oti::RaptorQ(*sample.schedule.shape().table_oti());
        let header = sample.header.emit();
        (0..components)
            .flat_map(|component| {
                let object = PlannedObject { component: ComponentId(component), ..sample.object };
                entries(CampaignId([0xab; 16]), &object, tables, &header)
            })
            .collect()
    }

    fn read(generator: &FdtGenerator) -> (u32, FdtInstance) {
        let first = Packet::parse(&generator.packets()[0]).unwrap();
        let Some(Oti::NoCode(oti)) = first.extensions.fti(0).unwrap() else { unreachable!() };
        let mut decoder = Decoder::new(&oti, Sbn(0)).unwrap();
        for packet in generator.packets() {
            assert!(packet.len() <= 1472, "{}", packet.len());
            let packet = Packet::parse(packet).unwrap();
            assert_eq!(packet.header.toi, Some(Toi::FDT));
            assert_eq!(packet.extensions.fdt(), first.extensions.fdt());
            let payload = packet.payload.unwrap();
            decoder.push(payload.id.esi, payload.symbols);
        }
        let mut document = decoder.decode().unwrap();
        document.truncate(usize::try_from(oti.transfer_length()).unwrap());
        let id = first.extensions.fdt().unwrap().instance_id;
        (id, FdtInstance::parse(&document).unwrap())
    }

    // test: rfc6726 3.4.1, rfc6726 3.2, rfc6726 3.3, rfc6726 3.4.2, rfc6726 3.4.3
    #[test]
    fn an_instance_lists_image_tables_and_header_of_every_component() {
        let now = Utc::from_seconds(1_800_000_000);
        let generator = FdtGenerator::new(now, Tsi(9), files(16), 5);
        let (id, instance) = read(&generator);
        assert_eq!((id, generator.next_instance_id()), (5, 6));
        assert!(instance.complete);
        assert_eq!(instance.files.len(), 48);
        assert_eq!(instance.files[1].content_location, format!("{}/0.symtab", "ab".repeat(16)));
        assert_eq!(instance.files[1].content_type.as_deref(), Some(TABLES_TYPE));
        assert_eq!(instance.files[5].toi, Toi(0x8001));
    }

    // test: rfc6726 3.3, rfc6726 3.4.1
    #[test]
    fn an_instance_is_replaced_long_before_it_expires() {
        let now = Utc::from_seconds(1_800_000_000);
        let mut generator = FdtGenerator::new(now, Tsi(9), files(1), INSTANCE_IDS - 1);
        let first = generator.packets().to_vec();
        generator.reissue_if_due(now + Duration::from_secs(12 * 3600));
        assert_eq!(generator.packets(), first);
        generator.reissue_if_due(now + Duration::from_secs(12 * 3600 + 1));
        let (id, instance) = read(&generator);
        assert_eq!(id, 0);
        let expires = now.from_ntp_near(instance.expires_ntp);
        assert_eq!(expires, now + Duration::from_secs(36 * 3600 + 1));
    }
}

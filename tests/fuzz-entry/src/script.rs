//! Octets as a list of actions, so that a fuzzer can cut, repeat and join them.

/// A cursor that never fails: behind the end all numbers are zero.
#[derive(Debug, Clone)]
pub struct Script<'a> {
    remaining: &'a [u8],
}

impl<'a> Script<'a> {
    /// Starts at the first octet.
    #[must_use]
    pub const fn new(octets: &'a [u8]) -> Self {
        Self { remaining: octets }
    }

    /// Returns whether all was read.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.remaining.is_empty()
    }

    /// Takes one octet.
    pub fn u8(&mut self) -> u8 {
        let Some((first, remaining)) = self.remaining.split_first() else { return 0 };
        self.remaining = remaining;
        *first
    }

    /// Takes two octets.
    pub fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.u8(), self.u8()])
    }

    /// Takes four octets.
    pub fn u32(&mut self) -> u32 {
        u32::from(self.u16()) << 16 | u32::from(self.u16())
    }

    /// Takes eight octets.
    pub fn u64(&mut self) -> u64 {
        u64::from(self.u32()) << 32 | u64::from(self.u32())
    }

    /// Takes `count` octets, or as many as are left.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, remaining) =
            self.remaining.split_at_checked(count).unwrap_or((self.remaining, &[]));
        self.remaining = remaining;
        taken
    }

    /// Takes octets behind their 11-bit length: as long as a datagram gets.
    pub fn datagram(&mut self) -> &'a [u8] {
        let length = self.u16() & 0x07ff;
        self.take(length.into())
    }
}

/// Writes what [`Script::datagram`] reads, behind the number of its action.
#[must_use]
pub fn datagram_action(action: u8, octets: &[u8]) -> Vec<u8> {
    let length = u16::try_from(octets.len()).unwrap_or(u16::MAX).min(0x07ff);
    let mut out = vec![action];
    out.extend(length.to_be_bytes());
    out.extend(octets.iter().take(length.into()));
    out
}

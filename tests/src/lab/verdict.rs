//! Verdict of a run: the promises that were kept or broken.

use crate::lab::{
    exit::Exit,
    report::{Device, Outcome},
};

/// FUMO result code of a successful update.
const SUCCESS: u16 = 200;

/// The phase of a device that reported success and whose version was read back.
const CONFIRMED: &str = "confirmed";

/// Returns the outcome of a run; `image_sha256` is the digest of the image that was sent.
pub fn outcome_of(image_sha256: &str, devices: &[Device]) -> Outcome {
    if devices.iter().any(|device| breach(image_sha256, device).is_some()) {
        return Outcome::Breach;
    }
    let done = |device: &Device| {
        device.result_code == Some(SUCCESS)
            && device.phase == CONFIRMED
            && device.image_sha256.as_deref() == Some(image_sha256)
    };
    let mut armed = devices.iter().filter(|device| device.armed);
    if armed.all(done) { Outcome::Complete } else { Outcome::Partial }
}

/// Returns the promise that a device broke.
pub fn breach(image_sha256: &str, device: &Device) -> Option<String> {
    let id = &device.id;
    match &device.image_sha256 {
        Some(_) if !device.armed => Some(format!("{id} was not armed and was handed an image")),
        Some(found) if found != image_sha256 => {
            Some(format!("{id} was handed an image with the digest {found}"))
        }
        None if device.armed && device.result_code == Some(SUCCESS) => {
            Some(format!("{id} reports success and has installed nothing"))
        }
        _ if device.wrong_symbols > 0 => {
            Some(format!("{id} stored {} symbols that are not the image's", device.wrong_symbols))
        }
        _ if !device.armed && device.slots_held > 0 => {
            Some(format!("{id} was not armed and holds {} slots", device.slots_held))
        }
        _ => None,
    }
}

/// Returns the exit of an outcome.
pub const fn exit_of(outcome: Outcome) -> Exit {
    match outcome {
        Outcome::Complete => Exit::Complete,
        Outcome::Partial => Exit::Partial,
        Outcome::Breach => Exit::Breach,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn armed(result_code: Option<u16>, image: Option<&str>) -> Device {
        let image_sha256 = image.map(str::to_owned);
        let phase = CONFIRMED.to_owned();
        Device { armed: true, phase, result_code, image_sha256, ..Device::default() }
    }

    #[test]
    fn all_armed_devices_with_the_image_and_200_are_complete() {
        let idle = Device::default();
        let devices = [armed(Some(200), Some("ab")), armed(Some(200), Some("ab")), idle];
        assert_eq!(outcome_of("ab", &devices), Outcome::Complete);
    }

    #[test]
    fn one_armed_device_without_a_result_is_partial() {
        for late in [armed(None, None), armed(Some(451), None), armed(None, Some("ab"))] {
            assert_eq!(outcome_of("ab", &[armed(Some(200), Some("ab")), late]), Outcome::Partial);
        }
    }

    #[test]
    fn a_success_that_the_version_contradicts_is_partial() {
        for phase in ["reported", "version-mismatch"] {
            let device = Device { phase: phase.into(), ..armed(Some(200), Some("ab")) };
            assert_eq!(outcome_of("ab", &[device]), Outcome::Partial, "{phase}");
        }
    }

    #[test]
    fn each_broken_promise_is_a_breach() {
        let unarmed = Device::default();
        let broken = [
            armed(Some(200), Some("cd")),
            armed(None, Some("cd")),
            armed(Some(200), None),
            Device { wrong_symbols: 1, ..armed(Some(200), Some("ab")) },
            Device { slots_held: 1, ..unarmed.clone() },
            Device { image_sha256: Some("ab".into()), ..unarmed },
        ];
        for device in broken {
            assert_eq!(outcome_of("ab", &[armed(Some(200), Some("ab")), device]), Outcome::Breach);
        }
    }
}

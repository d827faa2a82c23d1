//! Any answers of a device: the session ends, and no result is invented.

use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a device answers, its session ends, its answers stay within its limit, and a
    /// result is never invented.
    #[test]
    fn a_session_ends_whatever_the_device_answers(
        exec in 0_u16..600,
        refused in prop::sample::select(vec!["Manifest", "Plan/0", "PkgURL", "Now", "nothing"]),
        code in 0_u16..600,
        missing in prop::sample::select(vec!["FwV", "Root", "Phase", "Version", "State", "nothing"]),
        limit in 600_u64..70_000,
        sequence in prop::sample::select(vec![200, 215, 406, 500]),
        atomic in prop::sample::select(vec![200, 406, 507]),
        value in ".{0,200}",
    ) {
        let mut context = device_context();
        let value: &'static str = Box::leak(value.into_boxed_str());
        let mut device = ScriptedDevice {
            exec: StatusCode(exec),
            refused: Some((refused, StatusCode(code))),
            limit,
            sequence: StatusCode(sequence),
            atomic: StatusCode(atomic),
            ..scripted().with("State", value).with("Phase", value).without(missing)
        };
        for reply in device.run(&mut context) {
            let length = u64::try_from(Encoding::Xml.emit(&reply).len()).unwrap();
            // The first one carries nothing that could be left out.
            prop_assert!(length <= limit || reply.commands.len() <= 3, "{length} > {limit}");
        }
        prop_assert!(context.attempts.iter().all(|row| row.result_code.is_none()));
        let armed = latest(&context).phase == ArmingPhase::Armed;
        // 1xx: in progress.
        prop_assert!(!armed || (100..300).contains(&exec));
    }
}

//! A failing world, made small: faults are left out one by one while it fails the same way.

use super::{
    injected_bugs::InjectedBug,
    scenario::Scenario,
    simulation::{self, Outcome},
    trace::Recording,
};

/// A failing world without the faults that do not matter.
#[derive(Debug, Clone)]
pub struct Shrunk {
    /// The faults that do not matter, by number.
    pub left_out: Vec<usize>,
    /// Its outcome without them.
    pub outcome: Outcome,
}

/// Leaves out all faults that do not matter.
pub fn shrink(world: &Scenario, bug: Option<InjectedBug>, outcome: Outcome) -> Shrunk {
    let faults = world.faults.len();
    let mut left = Shrunk { left_out: Vec::new(), outcome };
    // A fault that matters beside another may not matter without it.
    for _ in 0..3 {
        let before = left.left_out.len();
        for number in 0..faults {
            if left.left_out.contains(&number) {
                continue;
            }
            let mut left_out = left.left_out.clone();
            left_out.push(number);
            let scenario = world.clone().without(&left_out);
            let outcome = simulation::run(scenario, Recording::Digest, bug);
            if !outcome.breaches.is_empty() {
                left = Shrunk { left_out, outcome };
            }
        }
        if left.left_out.len() == before {
            break;
        }
    }
    left.left_out.sort_unstable();
    left
}

/// Returns the command that replays the world of a seed, or one of its superseding worlds.
pub fn replay_command(
    (seed, superseding): (u64, Option<usize>),
    left_out: &[usize],
    bug: Option<InjectedBug>,
) -> String {
    let mut command = format!("cargo run -p tests --bin sim -- --seed {seed}");
    if let Some(number) = superseding {
        command += &format!(" --superseding-world {number}");
    }
    for number in left_out {
        command += &format!(" --without {number}");
    }
    if let Some(bug) = bug {
        command += &format!(" --inject {}", bug.as_str());
    }
    command + " --trace"
}

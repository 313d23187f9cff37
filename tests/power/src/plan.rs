//! What is recorded: processes one after the other, each with its workload.

use serde::{Deserialize, Serialize};

use crate::random::Random;

/// One process of a plan.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Boot {
    /// Of its workload.
    pub seed: u64,
    /// How many operations are told.
    pub operations: usize,
    /// Messages of a megabyte among them.
    pub ballast: u64,
    /// At most so many operations wait for their tickets.
    pub window: usize,
    /// It ends without closing the engine.
    pub abort: bool,
}

/// What is recorded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Bytes of a memtable.
    pub memtable_bytes: u64,
    /// The engine completes tickets without a sync, which must be found out.
    pub careless: bool,
    /// The processes.
    pub boots: Vec<Boot>,
}

impl Plan {
    /// The plan of a seed. `size`: 1 is a short one, which fills no journal; 10 fills several.
    pub fn new(seed: u64, size: u64) -> Self {
        let mut random = Random::new(seed);
        let boots = 3 + random.below(3);
        let boot = |number: u64, random: &mut Random| {
            // Of a journal 64 megabytes.
            let fills = number == 1 && size > 1;
            let ballast = if fills { 16 * size } else { 0 };
            Boot {
                seed: random.next(),
                operations: (100 + random.below(150 + 50 * size) + 4 * ballast) as usize,
                ballast,
                window: [1, 4, 16, 64, 400][random.below(5) as usize],
                abort: number + 1 < boots && random.once_in(2),
            }
        };
        Self {
            memtable_bytes: [16 << 10, 64 << 10, 256 << 10][random.below(3) as usize],
            careless: false,
            boots: (0..boots).map(|number| boot(number, &mut random)).collect(),
        }
    }
}

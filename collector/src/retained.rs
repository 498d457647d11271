//! Captured executables whose hashing has to wait for the budget of their container. Owned by `commands`.

use driftline_collector_core::Moment;
use driftline_schemas::ContainerId;
use std::collections::BTreeMap;

use crate::files::CapturedFile;

/// Most of them: half of what may be captured at all (32), so that capturing goes on.
const RETAINED_MAX: usize = 16;

/// Most of one container: a quarter of [`KEPT_MAX`], so that one container's flood leaves places to others. A file that is
/// not retained is looked up by its path when its turn comes, and counts only if it is still the same file.
const RETAINED_PER_CONTAINER: usize = 4;

/// See the module.
#[derive(Debug)]
pub struct RetainedFiles<T = CapturedFile> {
    files: BTreeMap<Moment, (ContainerId, T)>,
}

impl<T> Default for RetainedFiles<T> {
    fn default() -> Self {
        Self { files: BTreeMap::new() }
    }
}

impl<T> RetainedFiles<T> {
    /// Retains a file if there is room.
    pub fn retain(&mut self, container: &ContainerId, moment: Moment, file: T) {
        let of_container = self.files.values().filter(|(id, _)| id == container).count();
        if self.files.len() < RETAINED_MAX && of_container < RETAINED_PER_CONTAINER {
            self.files.insert(moment, (container.clone(), file));
        }
    }

    /// Takes out the file of an exec.
    pub fn take(&mut self, moment: Moment) -> Option<T> {
        self.files.remove(&moment).map(|(_, file)| file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_has_its_share_and_all_of_them_together_the_whole() {
        let mut retained = RetainedFiles::default();
        let moment = |seq| Moment { time_ns: seq, cpu: 0, seq };
        for seq in 0..40 {
            retained.retain(&ContainerId::from(format!("{}", seq / 8).as_str()), moment(seq), seq);
        }
        assert_eq!(
            retained.files.keys().map(|at| at.seq).collect::<Vec<_>>(),
            [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27]
        );
        assert_eq!(
            (retained.take(moment(8)), retained.take(moment(8)), retained.take(moment(4))),
            (Some(8), None, None)
        );
        retained.retain(&ContainerId::from("1"), moment(12), 12);
        assert_eq!(retained.take(moment(12)), Some(12));
    }
}

//! Measures how short memory is: how near the process is to its limit, and how long threads wait
//! for memory.

use super::memory_limit::{Cgroup, Group, KernelFile, field};
use std::path::Path;

/// How short memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// There is enough memory.
    Calm,
    /// Memory that nobody needs should go back.
    High,
    /// The kernel will soon end processes, or stall them.
    Critical,
}

/// The loads, in percent of the limit, at which pressure becomes high and critical. .NET's shared
/// `ArrayPool` trims at the same two percentages of its collector's threshold, which is 90 % of
/// memory.
const LOADS: [u64; 2] = [70, 90];

/// The shares of the last ten seconds, in percent: pressure is high if some threads were stalled
/// that long for lack of memory, and critical if all non-idle ones were.
///
/// The kernel calls the second state thrashing if it lasts, and names no numbers; its examples of
/// triggers are 15 % and 5 % (`Documentation/accounting/psi.rst`). At 10 % systemd asks services to
/// give memory back: 200 ms in two seconds (`MemoryPressureThresholdSec=` in
/// `systemd.resource-control(5)`).
const STALLS: [f32; 2] = [10.0, 10.0];

impl Pressure {
    fn of_load(used: u64, limit: u64) -> Self {
        let percent = used.saturating_mul(100) / limit.max(1);
        Self::above(LOADS.map(|load| percent >= load))
    }

    /// Parses a file of pressure stall information.
    fn of_stalls(text: &str) -> Option<Self> {
        let share = |kind| -> Option<f32> {
            let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
            line.strip_prefix(" avg10=")?.split(' ').next()?.parse().ok()
        };
        let (some, full) = (share("some")?, share("full")?);
        Some(Self::above([some >= STALLS[0], full >= STALLS[1]]))
    }

    fn above([high, critical]: [bool; 2]) -> Self {
        match (high, critical) {
            (_, true) => Self::Critical,
            (true, _) => Self::High,
            _ => Self::Calm,
        }
    }
}

/// Reads the pressure from Linux; elsewhere it is always calm.
///
/// It compares each group's working set with the tightest of its limits; the worst result counts.
/// If no group has a limit below the machine's memory, the machine limits the process:
/// `MemAvailable` is the memory that it can still get without swapping, page cache included.
/// Otherwise the machine's load does not count, because other processes cause it.
pub struct Gauge {
    cgroup: Option<Cgroup>,
    stalls: Option<KernelFile>,
    machine: Option<KernelFile>,
    machine_bytes: u64,
}

impl Gauge {
    /// Finds the process's control groups, and opens their files.
    pub fn new() -> Self {
        if cfg!(target_os = "linux") {
            Self::at(Path::new("/"))
        } else {
            Self { cgroup: None, stalls: None, machine: None, machine_bytes: u64::MAX }
        }
    }

    /// Does the same with `/proc` and all mounts below `root`.
    pub fn at(root: &Path) -> Self {
        let cgroup = Cgroup::at(root);
        let own = cgroup.as_ref().and_then(Cgroup::pressure_file);
        let own = own.and_then(|path| KernelFile::open(&path));
        let machine = KernelFile::open(&root.join("proc/meminfo"));
        let total = machine.as_ref().and_then(|file| file.read(|text| field(text, "MemTotal:")));
        Self {
            cgroup,
            // v1 reports no group's stalls, only those of all threads together.
            stalls: own.or_else(|| KernelFile::open(&root.join("proc/pressure/memory"))),
            machine,
            machine_bytes: total.map_or(u64::MAX, |kib| kib.saturating_mul(1024)),
        }
    }

    /// Returns the pressure now. A file that can't be read counts as calm.
    pub fn read(&self) -> Pressure {
        let stalls = self.stalls.as_ref().and_then(|file| file.read(Pressure::of_stalls));
        let groups = self.cgroup.as_ref().map_or(&[][..], Cgroup::groups);
        let load = groups.iter().filter_map(|group| self.of_group(group)).max();
        load.or_else(|| self.of_machine()).max(stalls).unwrap_or(Pressure::Calm)
    }

    /// Returns `None` if the group has no limit that matters, or can't be read.
    fn of_group(&self, group: &Group) -> Option<Pressure> {
        let limit = group.limit().filter(|&limit| limit < self.machine_bytes)?;
        let level = |used| Pressure::of_load(used, limit);
        // The working set is never above the charge, and takes the kernel longer to compute.
        let most = level(group.charge()?);
        Some(if most == Pressure::Calm { most } else { level(group.usage()?) })
    }

    fn of_machine(&self) -> Option<Pressure> {
        self.machine.as_ref()?.read(|text| {
            let (total, available) = (field(text, "MemTotal:")?, field(text, "MemAvailable:")?);
            Some(Pressure::of_load(total.saturating_sub(available), total))
        })
    }
}

impl Default for Gauge {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::memory_limit::tests::{Tree, V2_MOUNT};

    const MIB: u64 = 1 << 20;

    const NO_STALLS: &str = "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n\
                             full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";

    /// A service with 512 MiB in a slice with 2 GiB, on a machine with 16 GiB.
    fn service() -> Tree {
        Tree::new(&[
            ("proc/self/cgroup", "0::/web.slice/app.service\n"),
            ("proc/self/mountinfo", V2_MOUNT),
            ("proc/meminfo", "MemTotal: 16777216 kB\nMemFree: 81920 kB\nMemAvailable: 81920 kB\n"),
            ("proc/pressure/memory", &stalls("99.00", "99.00")),
            ("sys/fs/cgroup/web.slice/app.service/memory.pressure", NO_STALLS),
            ("sys/fs/cgroup/web.slice/app.service/memory.max", "536870912\n"),
            ("sys/fs/cgroup/web.slice/app.service/memory.high", "max\n"),
            ("sys/fs/cgroup/web.slice/app.service/memory.current", "104857600\n"),
            ("sys/fs/cgroup/web.slice/app.service/memory.stat", "inactive_file 52428800\n"),
            ("sys/fs/cgroup/web.slice/memory.max", "2147483648\n"),
            ("sys/fs/cgroup/web.slice/memory.current", "104857600\n"),
        ])
    }

    /// A machine without control groups.
    fn machine(available_kib: u64) -> Tree {
        let meminfo = format!("MemTotal:  1000000 kB\nMemAvailable:   {available_kib} kB\n");
        Tree::new(&[("proc/meminfo", &meminfo)])
    }

    fn stalls(some: &str, full: &str) -> String {
        format!(
            "some avg10={some} avg60=1.06 avg300=0.40 total=2133311\n\
             full avg10={full} avg60=0.98 avg300=0.37 total=1993870\n"
        )
    }

    #[test]
    fn loads() {
        for (used, limit, pressure) in [
            (0, 100, Pressure::Calm),
            (69, 100, Pressure::Calm),
            (70, 100, Pressure::High),
            (89, 100, Pressure::High),
            (90, 100, Pressure::Critical),
            (101, 100, Pressure::Critical),
            (0, 0, Pressure::Calm),
            (1, 0, Pressure::Critical),
            (u64::MAX, 1, Pressure::Critical),
        ] {
            assert_eq!(Pressure::of_load(used, limit), pressure, "{used} of {limit}");
        }
        assert!(Pressure::Calm < Pressure::High && Pressure::High < Pressure::Critical);
    }

    #[test]
    fn stall_shares() {
        for (some, full, pressure) in [
            ("0.00", "0.00", Pressure::Calm),
            ("9.99", "9.99", Pressure::Calm),
            ("10.00", "0.00", Pressure::High),
            ("87.25", "9.99", Pressure::High),
            ("10.00", "10.00", Pressure::Critical),
            ("100.00", "99.00", Pressure::Critical),
        ] {
            assert_eq!(Pressure::of_stalls(&stalls(some, full)), Some(pressure), "{some} {full}");
        }
        assert_eq!(Pressure::of_stalls(NO_STALLS), Some(Pressure::Calm));
        for garbage in ["", "\n", "some", "some avg10=", &stalls("x", "0.00"), &stalls("", "")] {
            assert_eq!(Pressure::of_stalls(garbage), None, "{garbage:?}");
        }
    }

    #[test]
    fn a_group_near_its_limit() {
        let tree = service();
        let gauge = Gauge::at(tree.root());
        let current = |group: &str, mib: u64| {
            let path = format!("sys/fs/cgroup/web.slice/{group}memory.current");
            tree.write(&path, &format!("{}\n", mib * MIB));
            gauge.read()
        };
        // Neither the machine nor other groups' stalls matter; 50 MiB are page cache to drop.
        assert_eq!(gauge.read(), Pressure::Calm);
        assert_eq!(current("app.service/", 408), Pressure::Calm);
        assert_eq!(current("app.service/", 409), Pressure::High);
        assert_eq!(current("app.service/", 510), Pressure::High);
        assert_eq!(current("app.service/", 511), Pressure::Critical);
        assert_eq!(current("app.service/", 1), Pressure::Calm);
        // The slice is nearer to its limit than the service is.
        assert_eq!(current("", 1434), Pressure::High);
        assert_eq!(current("", 1844), Pressure::Critical);
        assert_eq!(current("", 1), Pressure::Calm);
        // Above memory.high the kernel reclaims.
        tree.write("sys/fs/cgroup/web.slice/app.service/memory.high", "104857600\n");
        assert_eq!(current("app.service/", 130), Pressure::High);
    }

    #[test]
    fn stalled_threads() {
        let tree = service();
        let gauge = Gauge::at(tree.root());
        let own = "sys/fs/cgroup/web.slice/app.service/memory.pressure";
        tree.write(own, &stalls("12.50", "3.10"));
        assert_eq!(gauge.read(), Pressure::High);
        tree.write(own, &stalls("31.00", "28.44"));
        assert_eq!(gauge.read(), Pressure::Critical);
        tree.write(own, "");
        assert_eq!(gauge.read(), Pressure::Calm);
        // Windows removes no file that is open.
        drop(gauge);
        // The machine's figure counts if the group has none or doesn't show it.
        std::fs::remove_file(tree.root().join(own)).expect("removed");
        assert_eq!(Gauge::at(tree.root()).read(), Pressure::Critical);
        tree.write(&format!("{own}/directory"), "");
        assert_eq!(Gauge::at(tree.root()).read(), Pressure::Critical);
        let tree = machine(900_000);
        tree.write("proc/pressure/memory", &stalls("12.50", "3.10"));
        assert_eq!(Gauge::at(tree.root()).read(), Pressure::High);
    }

    #[test]
    fn a_machine_nearly_full() {
        for (available, pressure) in [
            (1_000_000, Pressure::Calm),
            (300_001, Pressure::Calm),
            (300_000, Pressure::High),
            (100_000, Pressure::Critical),
            (0, Pressure::Critical),
            (2_000_000, Pressure::Calm),
        ] {
            assert_eq!(Gauge::at(machine(available).root()).read(), pressure, "{available}");
        }
        // A limit above the machine's memory is none, and so is one that was lifted.
        let tree = service();
        let own = "sys/fs/cgroup/web.slice/app.service/memory.max";
        tree.write("sys/fs/cgroup/web.slice/memory.max", "max\n");
        tree.write(own, "17179869184\n");
        let gauge = Gauge::at(tree.root());
        assert_eq!(gauge.read(), Pressure::Critical);
        tree.write(own, "536870912\n");
        assert_eq!(gauge.read(), Pressure::Calm);
        tree.write(own, "max\n");
        assert_eq!(gauge.read(), Pressure::Critical);
    }

    #[test]
    fn nothing_to_read() {
        assert_eq!(Gauge::at(Tree::new(&[]).root()).read(), Pressure::Calm);
        let tree = service();
        let gauge = Gauge::at(tree.root());
        for file in
            ["memory.max", "memory.high", "memory.current", "memory.stat", "memory.pressure"]
        {
            tree.write(&format!("sys/fs/cgroup/web.slice/app.service/{file}"), "\u{0}\n");
        }
        tree.write("sys/fs/cgroup/web.slice/memory.max", "");
        tree.write("proc/meminfo", "MemTotal: -1 kB\n");
        assert_eq!(gauge.read(), Pressure::Calm);
    }

    #[test]
    fn this_machine() {
        let gauge = Gauge::new();
        for _ in 0..100 {
            gauge.read();
        }
    }
}

//! The files in which Linux shows how much memory there is, with any content.
#![no_main]

#[allow(dead_code, reason = "they are the core's")]
#[path = "../../src/os/memory_limit.rs"]
mod memory_limit;
#[allow(dead_code, reason = "as above")]
#[path = "../../src/os/pressure.rs"]
mod pressure;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use memory_limit::{Cgroup, Group};
use pressure::Gauge;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

#[derive(Arbitrary, Debug)]
struct Files {
    is_v2: bool,
    /// True if the files below `/proc` are as the kernel writes them.
    is_regular: bool,
    memberships: Vec<u8>,
    mounts: Vec<u8>,
    limit: Vec<u8>,
    charge: Vec<u8>,
    stat: Vec<u8>,
    stalls: Vec<u8>,
    meminfo: Vec<u8>,
}

static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
    let root = std::env::temp_dir().join(format!("cistern-fuzz-{}", std::process::id()));
    for directory in ["proc/self", "proc/pressure", "sys/fs/cgroup"] {
        fs::create_dir_all(root.join(directory)).expect("a directory for the files");
    }
    root
});

fuzz_target!(|files: Files| {
    let root: &Path = &ROOT;
    let write = |path: &str, bytes: &[u8]| fs::write(root.join(path), bytes).expect("written");
    let (memberships, mounts): (&[u8], &[u8]) = match (files.is_regular, files.is_v2) {
        (false, _) => (&files.memberships, &files.mounts),
        (true, true) => (b"0::/\n", b"1 1 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n"),
        (true, false) => {
            (b"1:memory:/\n", b"1 1 0:1 / /sys/fs/cgroup rw - cgroup cgroup rw,memory\n")
        }
    };
    write("proc/self/cgroup", memberships);
    write("proc/self/mountinfo", mounts);
    write("proc/meminfo", &files.meminfo);
    write("proc/pressure/memory", &files.stalls);
    let [limit, charge] = if files.is_v2 {
        ["memory.max", "memory.current"]
    } else {
        ["memory.limit_in_bytes", "memory.usage_in_bytes"]
    };
    for (name, bytes) in [
        (limit, &files.limit),
        (charge, &files.charge),
        ("memory.stat", &files.stat),
        ("memory.pressure", &files.stalls),
    ] {
        write(&format!("sys/fs/cgroup/{name}"), bytes);
    }
    if let Some(cgroup) = Cgroup::at(root) {
        let groups = cgroup.groups();
        assert_eq!(cgroup.limit(), groups.iter().filter_map(Group::limit).min());
        for group in groups {
            assert!(group.limit().is_some());
            assert!(group.usage() <= group.charge());
        }
    }
    Gauge::at(root).read();
});

//! Finds how much memory the process may use: its control groups' limit, or else the machine's
//! memory.
//!
//! Linux shows the figures of a control group as files in a directory. Memory has two hierarchies
//! of groups: v2, and v1's memory controller, which a hybrid system has beside a v2 without one.
//! `/proc/self/cgroup` names the process's group in each, and `/proc/self/mountinfo` the place of
//! each. A container often sees only its own group, under another name. The kernel documents them
//! in `Documentation/admin-guide/cgroup-v2.rst` and `cgroup-v1/memory.rst`.

use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};

/// A limit from here on means none: v1 has no word for that, and shows the largest multiple of a
/// page below 2^63.
const NO_LIMIT: u64 = 1 << 62;

/// Returns how much memory the process may use, in bytes: the tightest limit of its control groups,
/// or the machine's memory if that is less or there is no limit.
pub fn memory_limit() -> usize {
    let limit = Cgroup::of_this_process().and_then(|cgroup| cgroup.limit()).unwrap_or(u64::MAX);
    // A 32-bit process on a larger machine can use all that it can address.
    usize::try_from(limit.min(machine_memory())).unwrap_or(usize::MAX)
}

#[cfg(unix)]
fn machine_memory() -> u64 {
    // SAFETY: it only reads a setting.
    let pages = unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) };
    // SAFETY: as above.
    let page_size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    match (u64::try_from(pages), u64::try_from(page_size)) {
        (Ok(pages), Ok(page_size)) => pages.saturating_mul(page_size),
        _ => UNKNOWN_MACHINE,
    }
}

#[cfg(windows)]
fn machine_memory() -> u64 {
    use windows_sys::Win32::System::SystemInformation::{GlobalMemoryStatusEx, MEMORYSTATUSEX};
    let size = size_of::<MEMORYSTATUSEX>();
    let length = u32::try_from(size).expect("64 bytes");
    let mut status = MEMORYSTATUSEX { dwLength: length, ..Default::default() };
    // SAFETY: `status` is as large as it says.
    let told = unsafe { GlobalMemoryStatusEx(&raw mut status) };
    if told == 0 { UNKNOWN_MACHINE } else { status.ullTotalPhys }
}

/// The assumed memory of a machine that doesn't report it: 4 GiB. Too low a figure only makes a
/// pool smaller than it might be.
const UNKNOWN_MACHINE: u64 = 4 << 30;

/// The control groups that limit this process's memory. They are found once: later reads see a
/// limit that changes, but not a move of the process, nor the first limit of a group.
pub struct Cgroup {
    /// Those with a limit: the process's own first, then its parents.
    groups: Vec<Group>,
    /// The process's own group in v2, with or without a memory controller.
    unified: Option<PathBuf>,
}

impl Cgroup {
    /// Finds this process's groups; `None` if there are none, or none can be seen.
    pub fn of_this_process() -> Option<Self> {
        if cfg!(target_os = "linux") { Self::at(Path::new("/")) } else { None }
    }

    /// Does the same with `/proc` and all mounts below `root`.
    pub fn at(root: &Path) -> Option<Self> {
        let read = |file| Some(String::from_utf8_lossy(&fs::read(root.join(file)).ok()?).into());
        let memberships: String = read("proc/self/cgroup")?;
        let mounts: String = read("proc/self/mountinfo")?;
        let [v1, v2] = [V1, V2].map(|version| {
            let path = membership(&memberships, version)?;
            own_group(root, &hierarchy_mounts(&mounts, version), path)
        });
        let unified = v2.as_ref().map(|(own, _)| own.clone());
        // The memory controller is in one hierarchy only. v1's is listed only if it has it.
        let ((own, top), version) = v1.map(|at| (at, V1)).or(v2.map(|at| (at, V2)))?;
        // A parent's limit holds for its children too, and may be the tighter one.
        let up = own.ancestors().take_while(|directory| directory.starts_with(&top));
        let groups = up.map(|directory| Group::open(directory, version));
        let groups = groups.filter(|group| group.limit().is_some()).collect();
        Some(Self { groups, unified })
    }

    /// Returns the tightest limit, in bytes.
    pub fn limit(&self) -> Option<u64> {
        self.groups.iter().filter_map(Group::limit).min()
    }

    /// Returns the groups that had a limit: the process's own first, then its parents.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Returns the file that shows how long the group's threads waited for memory; v2 only.
    pub fn pressure_file(&self) -> Option<PathBuf> {
        Some(self.unified.as_ref()?.join("memory.pressure"))
    }
}

/// The memory of one control group and all groups in it.
pub struct Group {
    limits: Vec<KernelFile>,
    charge: Option<KernelFile>,
    stat: Option<KernelFile>,
    inactive_file: &'static str,
}

impl Group {
    fn open(directory: &Path, version: Version) -> Self {
        let open = |name| KernelFile::open(&directory.join(name));
        Self {
            limits: version.limits.iter().copied().filter_map(open).collect(),
            charge: open(version.charge),
            stat: open("memory.stat"),
            inactive_file: version.inactive_file,
        }
    }

    /// Returns how much memory the group may use, in bytes.
    pub fn limit(&self) -> Option<u64> {
        self.limits.iter().filter_map(|file| file.read(parse_limit)).min()
    }

    /// Returns how much memory is charged to the group, in bytes, with all its page cache.
    pub fn charge(&self) -> Option<u64> {
        self.charge.as_ref()?.read(parse_bytes)
    }

    /// Returns the working set, in bytes: the charge without the page cache that nobody has used
    /// for a while, which the kernel drops first. Kubernetes evicts by it.
    pub fn usage(&self) -> Option<u64> {
        let inactive = |stat: &KernelFile| stat.read(|text| field(text, self.inactive_file));
        let inactive = self.stat.as_ref().and_then(inactive).unwrap_or(0);
        Some(self.charge()?.saturating_sub(inactive))
    }
}

/// A file in which the kernel shows figures. It stays open, because opening costs ten times as much
/// as reading.
pub struct KernelFile(File);

impl KernelFile {
    /// Opens a file; `None` if there is none, or nothing can be read from it.
    pub fn open(path: &Path) -> Option<Self> {
        let file = Self(File::open(path).ok()?);
        file.read(|_| Some(()))?;
        Some(file)
    }

    /// Parses its first 4 KiB as they are now.
    pub fn read<T>(&self, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let mut buffer = [0; 4096];
        let length = read_start(&self.0, &mut buffer).ok()?;
        parse(str::from_utf8(buffer.get(..length)?).ok()?)
    }
}

/// Reads at a given offset, so that threads don't move each other's.
#[cfg(unix)]
fn read_start(file: &File, buffer: &mut [u8]) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, 0)
}

#[cfg(windows)]
fn read_start(file: &File, buffer: &mut [u8]) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, 0)
}

/// The differences between the hierarchies.
#[derive(Clone, Copy)]
struct Version {
    /// The file system's type in `/proc/self/mountinfo`.
    file_system: &'static str,
    /// The controller, in `/proc/self/cgroup` and among the mount's options; none for v2.
    controller: &'static str,
    limits: &'static [&'static str],
    charge: &'static str,
    /// In `memory.stat`. In v1 only the fields with `total_` count the groups within.
    inactive_file: &'static str,
}

const V1: Version = Version {
    file_system: "cgroup",
    controller: "memory",
    limits: &["memory.limit_in_bytes"],
    charge: "memory.usage_in_bytes",
    inactive_file: "total_inactive_file",
};

const V2: Version = Version {
    file_system: "cgroup2",
    controller: "",
    // `memory.high` kills no process, but above it the kernel throttles and reclaims, so a pool
    // can't count on that memory. (Node's `process.constrainedMemory()` takes it as a limit too.)
    limits: &["memory.max", "memory.high"],
    charge: "memory.current",
    inactive_file: "inactive_file",
};

/// Returns the path of the process's group in `version`'s hierarchy, from `/proc/self/cgroup`.
fn membership(memberships: &str, version: Version) -> Option<&str> {
    memberships.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let mut controllers = fields.next()?.split(',');
        let path = fields.next()?;
        controllers.any(|controller| controller == version.controller).then_some(path)
    })
}

/// A part of a hierarchy, and the directory that shows it.
#[derive(Debug, PartialEq)]
struct Mount {
    group: String,
    point: String,
}

/// Returns the mounts of `version`'s hierarchy, from `/proc/self/mountinfo`.
fn hierarchy_mounts(mountinfo: &str, version: Version) -> Vec<Mount> {
    let mount = |line: &str| {
        // 35 24 0:30 /group /mount/point rw,noatime shared:9 - cgroup cgroup rw,memory
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (group, point) = (unescape(fields.next()?), unescape(fields.next()?));
        let mut fields = file_system.split(' ');
        let is_type = fields.next()? == version.file_system;
        let mut options = fields.nth(1)?.split(',');
        let is_hierarchy =
            version.controller.is_empty() || options.any(|option| option == version.controller);
        (is_type && is_hierarchy).then_some(Mount { group, point })
    };
    mountinfo.lines().filter_map(mount).collect()
}

/// Decodes the four characters that `/proc/self/mountinfo` writes in octal.
fn unescape(field: &str) -> String {
    let field = field.replace(r"\040", " ").replace(r"\011", "\t").replace(r"\012", "\n");
    field.replace(r"\134", r"\")
}

/// Returns the directory of the group at `path`, and its mount. If no mount shows it, returns the
/// first mount itself: in a container that is most likely the process's own group.
fn own_group(root: &Path, mounts: &[Mount], path: &str) -> Option<(PathBuf, PathBuf)> {
    let top = |mount: &Mount| root.join(mount.point.trim_start_matches('/'));
    let shown = mounts.iter().find_map(|mount| {
        let below = Path::new(path).strip_prefix(&mount.group).ok()?;
        // A group outside of the process's namespace has `..` in its path.
        let is_plain = below.components().all(|part| matches!(part, Component::Normal(_)));
        let own = top(mount).join(below);
        (is_plain && own.is_dir()).then(|| (own, top(mount)))
    });
    shown.or_else(|| mounts.first().map(|mount| (top(mount), top(mount))))
}

fn parse_bytes(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// Parses a limit; `None` for v2's `max`, and for v1's substitute.
fn parse_limit(text: &str) -> Option<u64> {
    parse_bytes(text).filter(|&limit| limit < NO_LIMIT)
}

/// Returns the number after `name` in a file with one field on each line.
pub fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        if words.next()? == name { words.next()?.parse().ok() } else { None }
    })
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::process;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A temporary directory with files.
    pub struct Tree(PathBuf);

    impl Tree {
        pub fn new(files: &[(&str, &str)]) -> Self {
            static COUNT: AtomicUsize = AtomicUsize::new(0);
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("cistern-cgroup-{}-{count}", process::id());
            let tree = Self(std::env::temp_dir().join(name));
            for (path, text) in files {
                tree.write(path, text);
            }
            tree
        }

        pub fn write(&self, path: &str, text: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            fs::write(path, text).expect("written");
        }

        pub fn root(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// A mount of the whole of v2.
    pub const V2_MOUNT: &str = "\
        22 28 0:20 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw\n\
        29 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 \
        rw,nsdelegate,memory_recursiveprot\n";

    /// Mounts of a hybrid system.
    const HYBRID_MOUNTS: &str = "\
        31 23 0:26 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:9 - tmpfs tmpfs ro,mode=755\n\
        32 31 0:27 / /sys/fs/cgroup/unified rw,relatime shared:10 - cgroup2 cgroup2 rw\n\
        33 31 0:28 / /sys/fs/cgroup/systemd rw shared:11 - cgroup cgroup rw,xattr,name=systemd\n\
        36 31 0:31 / /sys/fs/cgroup/cpu,cpuacct rw shared:15 - cgroup cgroup rw,cpu,cpuacct\n\
        38 31 0:33 / /sys/fs/cgroup/memory rw,relatime shared:17 - cgroup cgroup rw,memory\n";

    /// v1 shows these if there is no limit: on x86, and with pages of 64 KiB.
    const V1_NO_LIMIT: [&str; 2] = ["9223372036854771712\n", "9223372036854710272\n"];

    const STAT_V2: &str = "\
        anon 104857600\nfile 73400320\nkernel 5242880\nshmem 0\nfile_mapped 8388608\n\
        inactive_anon 104800256\nactive_anon 57344\ninactive_file 52428800\n\
        active_file 20971520\nunevictable 0\nworkingset_refault_file 0\n";

    const STAT_V1: &str = "\
        cache 4096\nrss 8192\ninactive_anon 0\nactive_anon 8192\ninactive_file 4096\n\
        active_file 0\nhierarchical_memory_limit 536870912\ntotal_cache 73400320\n\
        total_inactive_anon 0\ntotal_inactive_file 52428800\ntotal_active_file 20971520\n";

    const MIB: u64 = 1 << 20;

    /// Returns the limits of a process with these memberships and mounts, by [`Cgroup::at`].
    fn cgroup(memberships: &str, mounts: &str, files: &[(&str, &str)]) -> (Option<Cgroup>, Tree) {
        let tree = Tree::new(files);
        tree.write("proc/self/cgroup", memberships);
        tree.write("proc/self/mountinfo", mounts);
        (Cgroup::at(tree.root()), tree)
    }

    fn usages(cgroup: &Cgroup) -> Vec<Option<u64>> {
        cgroup.groups().iter().map(Group::usage).collect()
    }

    #[test]
    fn limits() {
        assert_eq!(parse_limit("536870912\n"), Some(512 * MIB));
        assert_eq!(parse_limit("0\n"), Some(0));
        for none in ["max\n", "", "\n", "-1\n", "512M\n", "99999999999999999999\n", "\0"] {
            assert_eq!(parse_limit(none), None, "{none:?}");
        }
        for none in V1_NO_LIMIT {
            assert_eq!(parse_limit(none), None, "{none:?}");
        }
    }

    #[test]
    fn fields() {
        assert_eq!(field(STAT_V2, "inactive_file"), Some(50 * MIB));
        assert_eq!(field(STAT_V1, "inactive_file"), Some(4096));
        assert_eq!(field(STAT_V1, "total_inactive_file"), Some(50 * MIB));
        assert_eq!(field("MemTotal:       24684092 kB\n", "MemTotal:"), Some(24_684_092));
        for garbage in ["", "inactive_file", "inactive_file \n", "inactive_file x", "\n\n \n"] {
            assert_eq!(field(garbage, "inactive_file"), None, "{garbage:?}");
        }
    }

    #[test]
    fn memberships() {
        let hybrid =
            "12:cpu,cpuacct:/user.slice\n4:memory:/a:b/c\n1:name=systemd:/i\n0::/u.scope\n";
        assert_eq!(membership(hybrid, V1), Some("/a:b/c"));
        assert_eq!(membership(hybrid, V2), Some("/u.scope"));
        assert_eq!(membership("0::/\n", V1), None);
        assert_eq!(membership("5:cpuset,memory,hugetlb:/x\n", V1), Some("/x"));
        for garbage in ["", "\n", "0:", "memory", "4:memory", ":::"] {
            assert_eq!(membership(garbage, V1), None, "{garbage:?}");
        }
    }

    #[test]
    fn mounts() {
        let mount = |group: &str, point: &str| Mount { group: group.into(), point: point.into() };
        assert_eq!(hierarchy_mounts(HYBRID_MOUNTS, V1), [mount("/", "/sys/fs/cgroup/memory")]);
        assert_eq!(hierarchy_mounts(HYBRID_MOUNTS, V2), [mount("/", "/sys/fs/cgroup/unified")]);
        assert_eq!(hierarchy_mounts(V2_MOUNT, V1), []);
        let escaped = r"9 8 0:1 /a\134x2db /mnt/my\040groups rw - cgroup2 none rw";
        assert_eq!(hierarchy_mounts(escaped, V2), [mount(r"/a\x2db", "/mnt/my groups")]);
        for garbage in
            ["", " - ", "1 2 3 4 5 6", "1 2 3 / - cgroup2 c rw", "1 2 3 / /m rw - cgroup2"]
        {
            assert_eq!(hierarchy_mounts(garbage, V2), [], "{garbage:?}");
        }
    }

    #[test]
    fn docker_on_v2() {
        let mounts = "\
            712 711 0:62 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw\n\
            718 716 0:27 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw\n";
        let (cgroup, tree) = cgroup(
            "0::/\n",
            mounts,
            &[
                ("sys/fs/cgroup/memory.max", "536870912\n"),
                ("sys/fs/cgroup/memory.high", "max\n"),
                ("sys/fs/cgroup/memory.current", "183500800\n"),
                ("sys/fs/cgroup/memory.stat", STAT_V2),
            ],
        );
        let cgroup = cgroup.expect("a group");
        assert_eq!(cgroup.limit(), Some(512 * MIB));
        assert_eq!(usages(&cgroup), [Some(125 * MIB)]);
        let pressure = cgroup.pressure_file().expect("v2");
        assert_eq!(pressure, tree.root().join("sys/fs/cgroup/memory.pressure"));
        // A limit that `docker update` sets is seen without another search for the group.
        tree.write("sys/fs/cgroup/memory.max", "1073741824\n");
        tree.write("sys/fs/cgroup/memory.high", "805306368\n");
        assert_eq!(cgroup.limit(), Some(768 * MIB));
        // More is inactive than charged: the two are read one after the other, and may disagree.
        tree.write("sys/fs/cgroup/memory.current", "1048576\n");
        assert_eq!(usages(&cgroup), [Some(0)]);
        tree.write("sys/fs/cgroup/memory.current", "");
        assert_eq!(usages(&cgroup), [None]);
    }

    #[test]
    fn docker_on_v1() {
        let id = "/docker/3f8ea4b1c9d2";
        let mounts = format!(
            "1046 1045 0:49 / /sys/fs/cgroup rw,nosuid - tmpfs tmpfs rw,mode=755\n\
             1054 1046 0:33 {id} /sys/fs/cgroup/memory ro master:17 - cgroup cgroup rw,memory\n"
        );
        let memberships =
            format!("11:pids:{id}\n4:memory:{id}\n0::/system.slice/containerd.service\n");
        let (cgroup, _tree) = cgroup(
            &memberships,
            &mounts,
            &[
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n"),
                ("sys/fs/cgroup/memory/memory.usage_in_bytes", "183500800\n"),
                ("sys/fs/cgroup/memory/memory.stat", STAT_V1),
            ],
        );
        let cgroup = cgroup.expect("a group");
        assert_eq!(cgroup.limit(), Some(512 * MIB));
        assert_eq!(usages(&cgroup), [Some(125 * MIB)]);
        assert_eq!(cgroup.pressure_file(), None);
    }

    #[test]
    fn nested_limits() {
        let own = "sys/fs/cgroup/system.slice/web.slice/app.service";
        let (cgroup, _tree) = cgroup(
            "0::/system.slice/web.slice/app.service\n",
            V2_MOUNT,
            &[
                // The memory controller isn't on for the service, and the root has no limits.
                (&format!("{own}/cgroup.procs"), "1\n"),
                ("sys/fs/cgroup/system.slice/web.slice/memory.max", "max\n"),
                ("sys/fs/cgroup/system.slice/web.slice/memory.high", "314572800\n"),
                ("sys/fs/cgroup/system.slice/web.slice/memory.current", "209715200\n"),
                ("sys/fs/cgroup/system.slice/memory.max", "536870912\n"),
                ("sys/fs/cgroup/system.slice/memory.high", "max\n"),
                ("sys/fs/cgroup/system.slice/memory.current", "500000000\n"),
                ("sys/fs/cgroup/system.slice/memory.stat", "garbage"),
                // The group lies outside of the mount.
                ("sys/fs/memory.max", "1\n"),
            ],
        );
        let cgroup = cgroup.expect("a group");
        assert_eq!(cgroup.limit(), Some(300 * MIB));
        assert_eq!(usages(&cgroup), [Some(200 * MIB), Some(500_000_000)]);
        assert!(cgroup.pressure_file().expect("v2").ends_with("app.service/memory.pressure"));
    }

    #[test]
    fn hybrid() {
        let (cgroup, _tree) = cgroup(
            "4:memory:/user.slice/u.scope\n1:name=systemd:/user.slice\n0::/user.slice/u.scope\n",
            HYBRID_MOUNTS,
            &[
                ("sys/fs/cgroup/memory/user.slice/u.scope/memory.limit_in_bytes", V1_NO_LIMIT[0]),
                ("sys/fs/cgroup/memory/user.slice/memory.limit_in_bytes", "1073741824\n"),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", V1_NO_LIMIT[0]),
                ("sys/fs/cgroup/unified/user.slice/u.scope/memory.pressure", ""),
            ],
        );
        let cgroup = cgroup.expect("a group");
        assert_eq!(cgroup.limit(), Some(1024 * MIB));
        assert_eq!(usages(&cgroup), [None]);
        let pressure = cgroup.pressure_file().expect("v2");
        assert!(pressure.ends_with("unified/user.slice/u.scope/memory.pressure"));
    }

    #[test]
    fn own_group_out_of_sight() {
        let limits = [
            ("sys/fs/cgroup/memory.max", "536870912\n"),
            ("sys/fs/cgroup/other/memory.max", "1\n"),
            ("sys/fs/memory.max", "1\n"),
        ];
        // The group is not below the mount, is gone, or is in another namespace.
        for path in ["/kubepods/pod7/c9", "/app (deleted)", "/../other", "/../../other", "/.."] {
            let (cgroup, tree) = cgroup(&format!("0::{path}\n"), V2_MOUNT, &limits);
            let cgroup = cgroup.expect("a group");
            assert_eq!(cgroup.limit(), Some(512 * MIB), "{path}");
            let pressure = tree.root().join("sys/fs/cgroup/memory.pressure");
            assert_eq!(cgroup.pressure_file(), Some(pressure), "{path}");
        }
        // The host's groups are mounted too, and come first: they begin above the process's
        // namespace.
        let host = "50 49 0:26 /../../.. /host/cgroup rw - cgroup2 cgroup rw\n";
        let mounts = format!("{host}{V2_MOUNT}");
        let (cgroup, _tree) = cgroup("0::/\n", &mounts, &limits);
        assert_eq!(cgroup.expect("a group").limit(), Some(512 * MIB));
    }

    #[test]
    fn nothing_to_find() {
        assert!(Cgroup::at(Tree::new(&[]).root()).is_none());
        assert!(cgroup("", "", &[]).0.is_none());
        assert!(cgroup("garbage\n", "garbage\n", &[]).0.is_none());
        assert!(cgroup("0::/\n", "", &[]).0.is_none());
        assert!(cgroup("4:memory:/\n", V2_MOUNT, &[]).0.is_none());
        // Groups without a limit, or without files.
        for files in [&[][..], &[("sys/fs/cgroup/memory.max", "max\n")]] {
            let cgroup = cgroup("0::/\n", V2_MOUNT, files).0.expect("a group");
            assert_eq!(cgroup.limit(), None);
            assert_eq!(usages(&cgroup), []);
        }
        // Directories where files should be.
        let strange = [("sys/fs/cgroup/memory.max/x", "1"), ("sys/fs/cgroup/memory.stat/x", "1")];
        assert_eq!(cgroup("0::/\n", V2_MOUNT, &strange).0.expect("a group").limit(), None);
    }

    #[test]
    fn this_machine() {
        let limit = memory_limit();
        assert!(limit > 16 << 20, "{limit}");
        assert!(limit as u64 <= machine_memory());
        let has_groups = cfg!(target_os = "linux") && Path::new("/proc/self/cgroup").exists();
        assert_eq!(Cgroup::of_this_process().is_some(), has_groups);
    }
}

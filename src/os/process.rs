//! How the operating system started the process.

/// Returns `NODE_OPTIONS` as they were when the process started; `None` where the system does not
/// tell.
pub fn first_node_options() -> Option<String> {
    let environment = std::fs::read("/proc/self/environ").ok()?;
    let mut entries = environment.split(|byte| *byte == 0);
    let options = entries.find_map(|entry| entry.strip_prefix(b"NODE_OPTIONS="))?;
    Some(String::from_utf8_lossy(options).into_owned())
}

//! Names of the environment variables of a program that make it load or trust something.
//! Values never leave this module. Called when a record of the kernel is decoded, and for programs that run already.

use driftline_schemas::limits::ENVIRONMENT_NAMES_MAX;

/// Names that are reported, listed in detection.md: they make the C library load a file.
const NAMES: [&[u8]; 3] = [b"GCONV_PATH", b"LD_AUDIT", b"LD_PRELOAD"];

/// Proxies, in either case: `http_proxy`, `HTTPS_PROXY`, …
const PROXY_SUFFIX: &[u8] = b"_proxy";

/// Longest name that is reported: longer than any proxy's (`https_proxy`, `all_proxy`), and not a place to hide a value in.
pub const NAME_BYTES_MAX: usize = 32;

/// Names of interest in an environment in the kernel's form, sorted, each once. The last variable may be cut
/// off; its name counts when it is whole.
#[must_use]
pub fn names(bytes: &[u8]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let end = memchr::memchr(0, rest);
        let (variable, after) = match end {
            Some(end) => (rest.get(..end).unwrap_or_default(), rest.get(end + 1..).unwrap_or_default()),
            None => (rest, [].as_slice()),
        };
        rest = after;
        // A name ends with `=`; of the cut last one it may be missing.
        let Some(length) = variable.iter().take(NAME_BYTES_MAX + 1).position(|byte| *byte == b'=') else { continue };
        let name = variable.get(..length).unwrap_or_default();
        if is_of_interest(name) && found.len() < ENVIRONMENT_NAMES_MAX {
            found.push(String::from_utf8_lossy(name).into_owned());
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn is_of_interest(name: &[u8]) -> bool {
    NAMES.contains(&name) || is_proxy(name)
}

fn is_proxy(name: &[u8]) -> bool {
    let Some(at) = name.len().checked_sub(PROXY_SUFFIX.len()) else { return false };
    let (scheme, suffix) = name.split_at(at);
    suffix.eq_ignore_ascii_case(PROXY_SUFFIX) && !scheme.is_empty() && scheme.iter().all(u8::is_ascii_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_reported_and_values_never() {
        let check = |bytes: &[u8], expect: &[&str]| assert_eq!(names(bytes), expect);
        check(b"", &[]);
        check(b"PATH=/bin\0LD_PRELOAD=/tmp/x.so\0HOME=/\0", &["LD_PRELOAD"]);
        check(b"https_proxy=http://u:p@h\0GCONV_PATH=.\0HTTP_PROXY=x\0", &["GCONV_PATH", "HTTP_PROXY", "https_proxy"]);
        check(b"XLD_PRELOAD=1\0LD_PRELOADX=1\0A=LD_PRELOAD=1\0_proxy=1\0no-proxy=1\0", &[]);
        check(b"LD_AUDIT=\0LD_AUDIT=\0", &["LD_AUDIT"]);
        check(b"LD_AUDIT", &[]);
        check(b"\xff\xfe_proxy=1\0", &[]);
    }

    #[test]
    fn what_is_retained_is_bounded() {
        let many: Vec<u8> = (0..100).flat_map(|number| format!("a{number}_proxy=x\0").into_bytes()).collect();
        assert_eq!(names(&many).len(), ENVIRONMENT_NAMES_MAX);
        let long = [vec![b'a'; NAME_BYTES_MAX], b"_proxy=x\0".to_vec()].concat();
        assert_eq!(names(&long), [""; 0]);
    }
}

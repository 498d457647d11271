//! Names and tactics of the MITRE ATT&CK techniques that driftline's detectors report, Enterprise matrix.

/// Version of ATT&CK that the names are taken from.
pub const VERSION: &str = "17";

/// A tactic: the goal of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tactic {
    /// For example `TA0002`.
    pub id: &'static str,
    /// For example `Execution`.
    pub name: &'static str,
}

/// A technique or sub-technique.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Technique {
    /// For example `T1059.004`.
    pub id: &'static str,
    /// The technique's own name, without its parent's.
    pub name: &'static str,
    /// The tactic under which driftline reports it; ATT&CK may list more.
    pub tactic: Tactic,
}

const INITIAL_ACCESS: Tactic = Tactic { id: "TA0001", name: "Initial Access" };
const EXECUTION: Tactic = Tactic { id: "TA0002", name: "Execution" };
const PERSISTENCE: Tactic = Tactic { id: "TA0003", name: "Persistence" };
const PRIVILEGE_ESCALATION: Tactic = Tactic { id: "TA0004", name: "Privilege Escalation" };
const DEFENSE_EVASION: Tactic = Tactic { id: "TA0005", name: "Defense Evasion" };
const CREDENTIAL_ACCESS: Tactic = Tactic { id: "TA0006", name: "Credential Access" };
const DISCOVERY: Tactic = Tactic { id: "TA0007", name: "Discovery" };
const LATERAL_MOVEMENT: Tactic = Tactic { id: "TA0008", name: "Lateral Movement" };
const COLLECTION: Tactic = Tactic { id: "TA0009", name: "Collection" };
const EXFILTRATION: Tactic = Tactic { id: "TA0010", name: "Exfiltration" };
const COMMAND_AND_CONTROL: Tactic = Tactic { id: "TA0011", name: "Command and Control" };
const IMPACT: Tactic = Tactic { id: "TA0040", name: "Impact" };

/// Sorted by id.
const TECHNIQUES: [Technique; 46] = [
    row("T1001", "Data Obfuscation", COMMAND_AND_CONTROL),
    row("T1001.002", "Steganography", COMMAND_AND_CONTROL),
    row("T1005", "Data from Local System", COLLECTION),
    row("T1014", "Rootkit", DEFENSE_EVASION),
    row("T1020", "Automated Exfiltration", EXFILTRATION),
    row("T1027", "Obfuscated Files or Information", DEFENSE_EVASION),
    row("T1027.003", "Steganography", DEFENSE_EVASION),
    row("T1027.004", "Compile After Delivery", DEFENSE_EVASION),
    row("T1036", "Masquerading", DEFENSE_EVASION),
    row("T1036.003", "Rename Legitimate Utilities", DEFENSE_EVASION),
    row("T1036.005", "Match Legitimate Resource Name or Location", DEFENSE_EVASION),
    row("T1041", "Exfiltration Over C2 Channel", EXFILTRATION),
    row("T1046", "Network Service Discovery", DISCOVERY),
    row("T1048", "Exfiltration Over Alternative Protocol", EXFILTRATION),
    row("T1055", "Process Injection", DEFENSE_EVASION),
    row("T1059", "Command and Scripting Interpreter", EXECUTION),
    row("T1059.004", "Unix Shell", EXECUTION),
    row("T1059.006", "Python", EXECUTION),
    row("T1068", "Exploitation for Privilege Escalation", PRIVILEGE_ESCALATION),
    row("T1070", "Indicator Removal", DEFENSE_EVASION),
    row("T1070.004", "File Deletion", DEFENSE_EVASION),
    row("T1071", "Application Layer Protocol", COMMAND_AND_CONTROL),
    row("T1082", "System Information Discovery", DISCOVERY),
    row("T1083", "File and Directory Discovery", DISCOVERY),
    row("T1090", "Proxy", COMMAND_AND_CONTROL),
    row("T1095", "Non-Application Layer Protocol", COMMAND_AND_CONTROL),
    row("T1105", "Ingress Tool Transfer", COMMAND_AND_CONTROL),
    row("T1106", "Native API", EXECUTION),
    row("T1129", "Shared Modules", EXECUTION),
    row("T1132", "Data Encoding", COMMAND_AND_CONTROL),
    row("T1140", "Deobfuscate/Decode Files or Information", DEFENSE_EVASION),
    row("T1190", "Exploit Public-Facing Application", INITIAL_ACCESS),
    row("T1203", "Exploitation for Client Execution", EXECUTION),
    row("T1204", "User Execution", EXECUTION),
    row("T1485", "Data Destruction", IMPACT),
    row("T1496", "Resource Hijacking", IMPACT),
    row("T1548", "Abuse Elevation Control Mechanism", PRIVILEGE_ESCALATION),
    row("T1548.003", "Sudo and Sudo Caching", PRIVILEGE_ESCALATION),
    row("T1552", "Unsecured Credentials", CREDENTIAL_ACCESS),
    row("T1552.004", "Private Keys", CREDENTIAL_ACCESS),
    row("T1554", "Compromise Host Software Binary", PERSISTENCE),
    row("T1570", "Lateral Tool Transfer", LATERAL_MOVEMENT),
    row("T1574", "Hijack Execution Flow", DEFENSE_EVASION),
    row("T1609", "Container Administration Command", EXECUTION),
    row("T1611", "Escape to Host", PRIVILEGE_ESCALATION),
    row("T1620", "Reflective Code Loading", DEFENSE_EVASION),
];

const fn row(id: &'static str, name: &'static str, tactic: Tactic) -> Technique {
    Technique { id, name, tactic }
}

/// The technique with this id, if driftline knows it.
#[must_use]
pub fn technique(id: &str) -> Option<&'static Technique> {
    TECHNIQUES.binary_search_by(|technique| technique.id.cmp(id)).ok().and_then(|at| TECHNIQUES.get(at))
}

/// The technique that a sub-technique refines; for a technique, the id itself.
#[must_use]
pub fn parent(id: &str) -> &str {
    id.split_once('.').map_or(id, |(parent, _)| parent)
}

/// Page of a technique. `None` unless the id has the form of a technique id, so that no other text becomes a link.
#[must_use]
pub fn link(id: &str) -> Option<String> {
    let (parent, child) = id.split_once('.').map_or((id, None), |(parent, child)| (parent, Some(child)));
    let digits = |text: &str, count| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    let well_formed = parent.strip_prefix('T').is_some_and(|number| digits(number, 4))
        && child.is_none_or(|number| digits(number, 3));
    let path = child.map_or_else(|| parent.to_owned(), |child| format!("{parent}/{child}"));
    well_formed.then(|| format!("https://attack.mitre.org/techniques/{path}/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_every_sub_technique_has_its_parent() {
        assert!(TECHNIQUES.is_sorted_by(|left, right| left.id < right.id));
        for row in &TECHNIQUES {
            assert_eq!(technique(row.id), Some(row));
            assert!(technique(parent(row.id)).is_some(), "{}", row.id);
            assert!(link(row.id).is_some(), "{}", row.id);
        }
    }

    #[test]
    fn links_are_made_of_technique_ids_only() {
        assert_eq!(link("T1059.004").unwrap(), "https://attack.mitre.org/techniques/T1059/004/");
        for id in ["", "T1", "1105", "T1105.", "T1105/../x", "T1105.0045"] {
            assert_eq!(link(id), None, "{id}");
        }
    }
}

//! What to do about a flawed image, whatever ran from it.

use driftline_schemas::{AlertFinding, Container, IMAGE_CONFLICT, IMAGE_MISMATCH, Step};

use super::{Scene, quote, step};

/// Whether a finding is about the whole image rather than a program.
pub(super) fn is_about_image(finding: &AlertFinding) -> bool {
    finding.category == IMAGE_CONFLICT || finding.category == IMAGE_MISMATCH
}

/// How to find out which source is right.
pub(super) fn check(scene: &Scene<'_>) -> Option<Step> {
    let container = scene.alert.container.as_ref()?;
    let mut flaws: Vec<&AlertFinding> = scene.alert.findings.iter().filter(|finding| is_about_image(finding)).collect();
    flaws.sort_by(|left, right| left.category.cmp(&right.category));
    let texts: Vec<String> = flaws.iter().map(|finding| text(finding)).collect();
    (!texts.is_empty()).then(|| step("Check the image", texts.join(" "), commands(container)))
}

fn text(finding: &AlertFinding) -> String {
    let advice = if finding.category == IMAGE_CONFLICT {
        "The first command shows who published what. Index the image anew from where it was built or pulled and compare: \
         the publisher that differs from that has a defect or was taken over. Then revoke its Kafka credentials and remove \
         its records. Until then the container is judged by the manifest that was there first, or is trusted more."
    } else {
        "What was fetched is not what its digest says: a broken disk or registry, or somebody who changed it. Nothing of it \
         is used, so programs of this container cannot be judged. Pull the image again or repair the registry, then index \
         it anew; when the digests still differ, treat image and registry as tampered with."
    };
    format!("{}. {advice}", finding.note.trim_end_matches('.'))
}

/// Compares with the registry's own copy. If the reference names another image by now, the comparison shows it.
fn commands(container: &Container) -> Vec<String> {
    if !container.image_id.is_known() {
        return Vec::new();
    }
    let id = quote(container.image_id.as_str());
    let mut commands = vec![format!("driftline images show {id}")];
    if !container.image_ref.is_empty() {
        commands
            .push(format!("skopeo copy {} oci-archive:image.tar", quote(&format!("docker://{}", container.image_ref))));
        commands.push(format!("driftline images verify {id} --against image.tar"));
    }
    commands
}

//! Style sheet, script and icon, each under a name that changes with its content.

use std::sync::LazyLock;

use super::answer::Answer;

/// Where assets are.
pub(super) const ROOT: &str = "/console/assets/";

const STYLE: &str = include_str!("assets/console.css");
const SCRIPT: &str = include_str!("assets/console.js");
const ICON: &str = include_str!("assets/icon.svg");

/// Path of the style sheet.
pub(super) static STYLE_PATH: LazyLock<String> = LazyLock::new(|| named(STYLE, "css"));
/// Path of the script.
pub(super) static SCRIPT_PATH: LazyLock<String> = LazyLock::new(|| named(SCRIPT, "js"));
/// Path of the icon.
pub(super) static ICON_PATH: LazyLock<String> = LazyLock::new(|| named(ICON, "svg"));

fn named(content: &str, ending: &str) -> String {
    let hash = blake3::hash(content.as_bytes()).to_hex();
    format!("{ROOT}console-{}.{ending}", &hash[..12])
}

/// The asset of this name. One of another version is answered with this version's content: a page
/// that was open over a restart stays usable. No browser keeps that, for the name is of another
/// content.
pub(super) fn find(name: &str) -> Option<Answer> {
    let (_, ending) = name.rsplit_once('.')?;
    let (content_type, content, path) = match ending {
        "css" => ("text/css; charset=utf-8", STYLE, &*STYLE_PATH),
        "js" => ("text/javascript; charset=utf-8", SCRIPT, &*SCRIPT_PATH),
        "svg" => ("image/svg+xml", ICON, &*ICON_PATH),
        _ => return None,
    };
    Some(Answer::Asset {
        content_type,
        bytes: content.as_bytes(),
        is_lasting: path.strip_prefix(ROOT) == Some(name),
    })
}

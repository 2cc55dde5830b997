//! Beginning rows on a log that retention has cut: with what was carried over the cut.

use super::{
    Erased, ProjectError, Row, Rows,
    checkpoint::{Checkpoint, record_begins},
    engine::Trouble,
    store::RowStore,
};
use crate::log::{Origin, SectionRows};

/// Rows written in one step.
const STEP_ROWS: usize = 1_024;

/// The name of the section that holds what this projection carried.
pub(super) fn section(projection: &dyn Erased) -> String {
    format!("{}-{}", projection.name(), projection.version())
}

/// Fills an empty store with what the origin holds for this projection, and gives its checkpoint.
/// What is half filled has no checkpoint, and is filled again. A projection that the origin does
/// not know begins with nothing.
pub(super) fn fill(
    projection: &dyn Erased,
    store: &mut dyn RowStore,
    origin: &Origin,
    empty: Checkpoint,
) -> Result<Checkpoint, Trouble> {
    if let Some(carried) = carried(projection, origin)? {
        carried.fill(projection, store)?;
    } else {
        tracing::warn!(
            projection = projection.name(),
            first = %origin.first(),
            "retention has cut the log; this projection begins with what is left of it"
        );
    }
    let checkpoint = Checkpoint {
        position: origin.last(),
        ..empty
    };
    let mut rows = Rows::over(store);
    projection.begin(&mut rows, origin.first())?;
    let mut changes = rows.into_changes();
    record_begins(&mut changes, origin.first());
    changes.extend(checkpoint.as_change());
    store.commit(changes)?;
    Ok(checkpoint)
}

/// The rows that some version of a projection carried.
struct Carried {
    version: u32,
    rows: SectionRows,
}

/// This version's rows, else those of the newest other one.
fn carried(projection: &dyn Erased, origin: &Origin) -> Result<Option<Carried>, Trouble> {
    let versions = origin.sections().filter_map(|name| {
        let (name, version) = name.rsplit_once('-')?;
        let version = version.parse::<u32>().ok()?;
        (name == projection.name()).then_some(version)
    });
    let own = projection.version();
    let Some(version) = versions.max_by_key(|version| (*version == own, *version)) else {
        return Ok(None);
    };
    let rows = origin.rows(&format!("{}-{version}", projection.name()))?;
    Ok(rows.map(|rows| Carried { version, rows }))
}

impl Carried {
    fn fill(self, projection: &dyn Erased, store: &mut dyn RowStore) -> Result<(), Trouble> {
        let mut carried = self.rows.peekable();
        while carried.peek().is_some() {
            let mut rows = Rows::over(store);
            for row in carried.by_ref().take(STEP_ROWS) {
                let (key, value) = row?;
                let row = Row::new(key, value);
                if let Some(row) = taken_over(projection, self.version, row)? {
                    rows.put(row.key, row.value);
                }
            }
            let changes = rows.into_changes();
            store.commit(changes)?;
        }
        Ok(())
    }
}

fn taken_over(
    projection: &dyn Erased,
    version: u32,
    row: Row,
) -> Result<Option<Row>, ProjectError> {
    if version == projection.version() {
        return Ok(Some(row));
    }
    projection.adopt(version, row)
}

//! Where the tickets end up: a column of the application, compared with the counter.

use std::fmt;

use super::*;

/// What [`check_column`] found. `Display` is what the command prints.
#[derive(Clone, Debug)]
pub struct ColumnReport {
    /// The column, as it was named.
    pub name: String,
    /// Its type, as the server spells it.
    pub kind: String,
    /// The highest number in it; `None` when it holds none.
    pub highest: Option<u64>,
    /// The highest number that it can hold; `None` for a type that is not a whole number.
    pub ceiling: Option<u64>,
    /// The last ticket that was reserved; `None` before the first.
    pub last_ticket: Option<u64>,
    /// How many tickets are left below the ceiling.
    pub left: Option<u64>,
    /// What is wrong with it; empty when nothing is.
    pub problems: Vec<Fault>,
}

impl fmt::Display for ColumnReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |value: Option<u64>| value.map_or("none".to_owned(), |n| n.to_string());
        let foreign = |text: &str| crate::foreign::printable(text);
        writeln!(f, "column            {}", foreign(&self.name))?;
        writeln!(f, "type              {}", foreign(&self.kind))?;
        writeln!(f, "highest           {}", number(self.highest))?;
        writeln!(f, "last ticket       {}", number(self.last_ticket))?;
        writeln!(f, "left in the type  {} tickets", number(self.left))?;
        for problem in &self.problems {
            writeln!(f, "problem: {problem}")?;
        }
        Ok(())
    }
}

/// Compares the column `database.table.column`, or `table.column` of Tickr's own database, with the
/// counter.
pub fn check_column(
    settings: &Settings,
    numbering: &Numbering,
    name: &str,
) -> Result<ColumnReport, Fault> {
    guarded(|| {
        let mut desk = Desk::open(settings)?;
        let view = desk.look()?.row?;
        let parts: Vec<&str> = name.split('.').collect();
        let (database, table, field) = match parts[..] {
            [database, table, field] => (database, table, field),
            [table, field] => (settings.name.as_str(), table, field),
            _ => return Err(no_column(name)),
        };
        let statement = desk.link.prep(include_str!("../../../sql/column.sql"))?;
        let kind: Option<String> = desk
            .link
            .exec_first(&statement, (database, table, field))?
            .map(|(kind,): (String,)| kind);
        let kind = kind.ok_or_else(|| no_column(name))?;
        let (field, table) = (
            quoted(field),
            format!("{}.{}", quoted(database), quoted(table)),
        );
        let about = |sql: &str| sql.replace("{column}", &field).replace("{table}", &table);
        let highest = about(include_str!("../../../sql/highest.sql"));
        let mut rows = desk.link.query(&highest, 1)?;
        // A negative number or a text is no ticket.
        let highest = rows.first_mut().and_then(|row| column::<u64>(row, 0).ok());
        let ceiling = ceiling(&kind);
        let last_ticket = numbering.ticket(view.id);
        let left = ceiling.map(|ceiling| numbering.headroom(view.id, ceiling));
        let mut problems = Vec::new();
        // The tickets of other nodes are ahead of this one's as often as not.
        let next = view.id.checked_add(1).and_then(|id| numbering.ticket(id));
        if let Some(next) = next.filter(|next| highest.is_some_and(|highest| highest >= *next)) {
            let ahead = about(include_str!("../../../sql/ahead.sql"));
            let ahead = desk.link.prep(&ahead)?;
            let row = desk
                .link
                .exec_first(&ahead, (next, next, numbering.max_nodes()))?;
            if let Some((Some(ahead),)) = row as Option<(Option<u64>,)> {
                problems.push(Fault::new(FaultKind::ColumnAhead, ahead.to_string()));
            }
        }
        if left.is_none_or(|left| left == 0) {
            problems.push(Fault::new(
                FaultKind::ColumnTooSmall,
                format!("it is {kind}"),
            ));
        }
        Ok(ColumnReport {
            name: name.to_owned(),
            kind,
            highest,
            ceiling,
            last_ticket,
            left,
            problems,
        })
    })
}

fn no_column(name: &str) -> Fault {
    let said = format!("there is no column {name}, or this user may not see it");
    Fault::new(FaultKind::AccessDenied, said)
}

/// The highest number that a type holds; `None` when it does not hold whole numbers exactly.
fn ceiling(kind: &str) -> Option<u64> {
    let kind = kind.to_ascii_lowercase();
    if let Some(size) = kind.strip_prefix("decimal(") {
        let (digits, scale) = size.split_once(')')?.0.split_once(',')?;
        let end = 10_u64.checked_pow(digits.parse().ok()?);
        return (scale == "0").then(|| end.map_or(u64::MAX, |end| end - 1));
    }
    let bits = match kind.split(['(', ' ']).next()? {
        "tinyint" => 8,
        "smallint" => 16,
        "mediumint" => 24,
        "int" | "integer" => 32,
        "bigint" => 64,
        _ => return None,
    };
    let bits = if kind.contains("unsigned") {
        bits
    } else {
        bits - 1
    };
    Some(u64::MAX >> (64 - bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_holds_what_the_manual_says() {
        assert_eq!(ceiling("tinyint(4)"), Some(127));
        assert_eq!(ceiling("mediumint unsigned"), Some(16_777_215));
        assert_eq!(ceiling("INT(10) UNSIGNED"), Some(4_294_967_295));
        assert_eq!(ceiling("bigint(20)"), Some(i64::MAX as u64));
        assert_eq!(ceiling("bigint unsigned"), Some(u64::MAX));
        assert_eq!(ceiling("decimal(12,0)"), Some(999_999_999_999));
        assert_eq!(ceiling("decimal(20,0) unsigned"), Some(u64::MAX));
        assert_eq!(ceiling("decimal(20,2)"), None);
        assert_eq!(ceiling("double"), None);
    }
}

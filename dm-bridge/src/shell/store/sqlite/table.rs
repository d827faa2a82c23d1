//! A table, whose columns are listed once: the statements, their values and the reader come from
//! the one list.

use sqlx::{Sqlite, query::Query, sqlite::SqliteArguments};

/// Rows that one statement writes, at most.
pub(super) const BATCH: usize = 128;

/// A statement with its values.
pub(super) type SqliteQuery<'q> = Query<'q, Sqlite, SqliteArguments<'q>>;

/// The columns of a table, in the order in which their values are bound.
pub(super) struct Table {
    name: &'static str,
    key: &'static [&'static str],
    fixed: &'static [&'static str],
    variable: &'static [&'static str],
}

impl Table {
    pub(super) const fn new(
        name: &'static str,
        key: &'static [&'static str],
        fixed: &'static [&'static str],
        variable: &'static [&'static str],
    ) -> Self {
        Self { name, key, fixed, variable }
    }

    /// Returns each column with the number of its value, from 1.
    pub(super) fn columns(&self) -> impl Iterator<Item = (usize, &'static str)> {
        (1..).zip([self.key, self.fixed, self.variable].into_iter().flatten().copied())
    }

    /// Returns the columns that an update writes, with the numbers of their values.
    pub(super) fn variable(&self) -> impl Iterator<Item = (usize, &'static str)> {
        self.columns().skip(self.key.len() + self.fixed.len())
    }

    /// Returns the number of columns.
    pub(super) const fn len(&self) -> usize {
        self.key.len() + self.fixed.len() + self.variable.len()
    }

    /// Returns the names of all columns.
    pub(super) fn names(&self) -> String {
        self.columns().map(|(_, column)| column).collect::<Vec<_>>().join(", ")
    }

    /// Returns the statement that adds a row.
    pub(super) fn insert(&self) -> String {
        let values = self.columns().map(|(number, column)| match column {
            "version" => format!("1 + ?{number}"),
            _ => format!("?{number}"),
        });
        let (names, values) = (self.names(), values.collect::<Vec<_>>().join(", "));
        format!("INSERT INTO {} ({names}) VALUES ({values})", self.name)
    }

    /// Returns the statement that writes the variable columns of a row over the version that it was
    /// read at.
    pub(super) fn update(&self) -> String {
        let is = |(number, column): (usize, &str)| format!("{column} = ?{number}");
        let set = self.variable().map(is).collect::<Vec<_>>().join(", ");
        let key = self.columns().take(self.key.len()).map(is).collect::<Vec<_>>().join(" AND ");
        format!("UPDATE {} SET version = 1 + version, {set} WHERE {key}", self.name)
    }
}

/// Declares a table. A line of a column is its name, the function that reads it and the value that
/// is bound for it. `bind` binds all columns of a row; the function at the end makes a row, in which
/// `column()` is the value of a column.
macro_rules! table {
    (
        $(#[$about:meta])*
        const $table:ident: $name:literal;
        bind($row:ident: &$type:ty $(, $given:ident: $given_type:ty)?);
        key { $($key:ident: $read_key:ident = $key_value:expr,)* }
        fixed { $($fixed:ident: $read_fixed:ident = $fixed_value:expr,)* }
        variable { $($variable:ident: $read_variable:ident = $variable_value:expr,)* }
        $visibility:vis fn $read:ident($($source:ident: $source_type:ty)?) $made:block
    ) => {
        $(#[$about])*
        const $table: Table = Table::new(
            $name,
            &[$(stringify!($key)),*],
            &[$(stringify!($fixed)),*],
            &[$(stringify!($variable)),*],
        );

        fn bind<'q>(
            query: SqliteQuery<'q>,
            $row: &'q $type
            $(, $given: $given_type)?
        ) -> SqliteQuery<'q> {
            query
                $(.bind($key_value))*
                $(.bind($fixed_value))*
                $(.bind($variable_value))*
        }

        $visibility fn $read(
            row: &SqliteRow
            $(, $source: $source_type)?
        ) -> Result<$type, StoreError> {
            $(let $key = || $read_key(row, stringify!($key));)*
            $(let $fixed = || $read_fixed(row, stringify!($fixed));)*
            $(let $variable = || $read_variable(row, stringify!($variable));)*
            $made
        }
    };
}

pub(super) use table;

/// One statement for each power of two up to [`BATCH`], so that few are prepared, once. Excess
/// values are not bound, which makes them NULL.
pub(super) struct BatchTexts(Vec<(usize, String)>);

impl BatchTexts {
    pub(super) fn new(columns: usize, text: impl Fn(&str) -> String) -> Self {
        let row = format!("({})", vec!["?"; columns].join(", "));
        let sizes = (0..).map(|power| 1_usize << power).take_while(|size| *size <= BATCH);
        let entry = |size| (size, text(&format!("VALUES {}", vec![row.as_str(); size].join(", "))));
        Self(sizes.map(entry).collect())
    }

    pub(super) fn of(&self, rows: usize) -> &str {
        let found = self.0.iter().find(|(size, _)| *size >= rows);
        found.map(|(_, text)| text.as_str()).expect("a batch is no larger than the largest")
    }
}

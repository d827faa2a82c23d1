//! Enums whose values have words: in nodes, files, answers of the API and on command lines.

/// Defines an enum from one list of variants and their words.
///
/// It derives `Debug`, `Clone`, `Copy`, `PartialEq`, `Eq`, `PartialOrd`, `Ord` and `Hash`, and
/// adds:
///
/// - `ALL`: every value in the order of the list,
/// - `as_str`: the word, and `Display` by it,
/// - where a field is named after the type, `FromStr`: its error names the field and lists the words.
///
/// Attributes pass through. `, serde` in the head gives each variant its word for a derived
/// `Serialize` or `Deserialize`. A word after `|` is read as well and never written: it names a
/// value in data of earlier versions.
///
/// ```
/// proto::words! {
///     /// The power of a device.
///     #[derive(Default)]
///     pub enum Power: "power" {
///         /// Runs.
///         #[default]
///         On = "on",
///         /// Stands still.
///         Off = "off" | "halted",
///     }
/// }
///
/// assert_eq!(Power::ALL.map(Power::as_str), ["on", "off"]);
/// assert_eq!("halted".parse(), Ok(Power::Off));
/// let error = "up".parse::<Power>().unwrap_err();
/// assert_eq!(error.to_string(), "power is up, expected `on` or `off`");
/// ```
#[macro_export]
macro_rules! words {
    ($(#[$attribute:meta])* $visibility:vis enum $name:ident: $field:literal, serde $body:tt) => {
        $crate::words! { @serde [$(#[$attribute])*] [$visibility] $name $body }
        $crate::words! { @words [$visibility] $name $body }
        $crate::words! { @parse $name $field $body }
    };
    ($(#[$attribute:meta])* $visibility:vis enum $name:ident: $field:literal $body:tt) => {
        $crate::words! { @enum [$(#[$attribute])*] [$visibility] $name $body }
        $crate::words! { @words [$visibility] $name $body }
        $crate::words! { @parse $name $field $body }
    };
    ($(#[$attribute:meta])* $visibility:vis enum $name:ident, serde $body:tt) => {
        $crate::words! { @serde [$(#[$attribute])*] [$visibility] $name $body }
        $crate::words! { @words [$visibility] $name $body }
    };
    ($(#[$attribute:meta])* $visibility:vis enum $name:ident $body:tt) => {
        $crate::words! { @enum [$(#[$attribute])*] [$visibility] $name $body }
        $crate::words! { @words [$visibility] $name $body }
    };
    (@enum [$($attributes:tt)*] [$visibility:vis] $name:ident {
        $($(#[$attribute:meta])* $variant:ident = $word:literal $(| $former:literal)*),+ $(,)?
    }) => {
        $($attributes)*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $visibility enum $name {
            $($(#[$attribute])* $variant,)+
        }
    };
    (@serde [$($attributes:tt)*] [$visibility:vis] $name:ident {
        $($(#[$attribute:meta])* $variant:ident = $word:literal $(| $former:literal)*),+ $(,)?
    }) => {
        $($attributes)*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $visibility enum $name {
            $($(#[$attribute])* #[serde(rename = $word $(, alias = $former)*)] $variant,)+
        }
    };
    (@words [$visibility:vis] $name:ident {
        $($(#[$attribute:meta])* $variant:ident = $word:literal $(| $former:literal)*),+ $(,)?
    }) => {
        impl $name {
            /// Every value, in the order of definition.
            $visibility const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];

            /// Returns the word.
            #[must_use]
            $visibility const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                formatter.pad(self.as_str())
            }
        }
    };
    (@parse $name:ident $field:literal {
        $($(#[$attribute:meta])* $variant:ident = $word:literal $(| $former:literal)*),+ $(,)?
    }) => {
        impl ::std::str::FromStr for $name {
            type Err = $crate::wire::WireError;

            fn from_str(word: &str) -> ::std::result::Result<Self, Self::Err> {
                const EXPECTED: &str = $crate::words!(@expected $($word)+);
                let found = match word {
                    $($($former => Some(Self::$variant),)*)+
                    _ => Self::ALL.into_iter().find(|value| value.as_str() == word),
                };
                found.ok_or_else(|| $crate::wire::WireError::invalid($field, word, EXPECTED))
            }
        }
    };
    (@expected $word:literal) => { concat!("`", $word, "`") };
    (@expected $word:literal $last:literal) => { concat!("`", $word, "` or `", $last, "`") };
    (@expected $word:literal $($others:literal)+) => {
        concat!("`", $word, "`, ", $crate::words!(@expected $($others)+))
    };
}

#[cfg(test)]
mod tests {
    use serde::{
        Deserialize, Serialize,
        de::value::{Error, StrDeserializer},
    };

    words! {
        /// A colour of a lamp.
        #[derive(Default, Serialize, Deserialize)]
        pub(super) enum Colour: "colour", serde {
            /// Stop.
            Red = "red",
            /// Go.
            #[default]
            Green = "green" | "blue-green",
            /// Wait.
            DarkYellow = "dark-yellow",
        }
    }

    words! {
        enum Single: "single" {
            Only = "only",
        }
    }

    words! {
        enum Unparsed {
            First = "first",
            Second = "second",
        }
    }

    fn deserialize(word: &str) -> Result<Colour, Error> {
        Colour::deserialize(StrDeserializer::new(word))
    }

    #[test]
    fn every_value_is_listed_once_and_reads_back_from_its_word() {
        assert_eq!(Colour::ALL, [Colour::Red, Colour::Green, Colour::DarkYellow]);
        assert_eq!(Colour::ALL.map(Colour::as_str), ["red", "green", "dark-yellow"]);
        for colour in Colour::ALL {
            assert_eq!(colour.to_string().parse(), Ok(colour));
            assert_eq!(deserialize(colour.as_str()), Ok(colour));
        }
        assert_eq!(Unparsed::ALL.map(Unparsed::as_str), ["first", "second"]);
    }

    #[test]
    fn an_unknown_word_is_rejected_with_the_field_and_all_words() {
        let error = "purple".parse::<Colour>().unwrap_err().to_string();
        assert_eq!(error, "colour is purple, expected `red`, `green` or `dark-yellow`");
        let error = "none".parse::<Single>().unwrap_err().to_string();
        assert_eq!(error, "single is none, expected `only`");
        assert!(deserialize("purple").is_err());
    }

    #[test]
    fn a_word_of_before_is_read_and_not_written() {
        assert_eq!("blue-green".parse(), Ok(Colour::Green));
        assert_eq!(deserialize("blue-green"), Ok(Colour::Green));
        assert_eq!(Colour::Green.as_str(), "green");
    }

    #[test]
    fn attributes_pass_through_and_display_pads() {
        assert_eq!(Colour::default(), Colour::Green);
        assert_eq!(format!("{:>6}", Colour::Red), "   red");
        assert_eq!(format!("{:<6}|", Single::Only), "only  |");
        assert!(Unparsed::First < Unparsed::Second);
    }
}

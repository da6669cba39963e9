//! Getters and setters of socket options, one line each.

/// Makes, for each line, a getter and a setter of one option, on a type whose field is a `Descriptor`.
macro_rules! socket_options {
    ($type:ty $([$($parameters:tt)+])?, $field:ident: $($(#[$meta:meta])* $get:ident, $set:ident: $option:ident($value:ty);)*) => {
        impl $(<$($parameters)+>)? $type {
            $(
                $(#[$meta])*
                ///
                /// # Errors
                /// The system's.
                pub fn $get(&self) -> std::io::Result<$value> {
                    self.$field.here()?;
                    let name = crate::kernel::OptionName::$option;
                    match self.$field.kernel().getsockopt(self.$field.fd(), name)? {
                        crate::kernel::SocketOption::$option(value) => Ok(value),
                        other => unreachable!("the answer to {name:?} is {other:?}"),
                    }
                }

                $(#[$meta])*
                ///
                /// # Errors
                /// The system's; `InvalidInput` for a value out of the option's range.
                pub fn $set(&self, value: $value) -> std::io::Result<()> {
                    self.$field.here()?;
                    let option = crate::kernel::SocketOption::$option(value);
                    Ok(self.$field.kernel().setsockopt(self.$field.fd(), option)?)
                }
            )*
        }
    };
}

pub(crate) use socket_options;

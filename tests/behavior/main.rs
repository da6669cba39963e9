//! What the library promises, by name. Each body is one function; it runs on the real kernel, and (see `both`) on seeds.

mod coroutine;
mod machine;
mod tcp;
mod time;

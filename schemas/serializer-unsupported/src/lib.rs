//! One macro, under the name and with the arguments that `serde_avro_fast` expects.
//!
//! The package of that name on the registry is licensed LGPL-3.0-only, which does not go into a statically linked
//! Apache-2.0 program. The workspace replaces it with this one, written from how it is called.

#[doc(hidden)]
pub use serde;

/// Inside `impl Serializer for X`: gives the named methods, each of which fails with `err`, and the associated types
/// that go with them.
///
/// ```text
/// serializer_unsupported! { err = (Error::new("only strings")); bool i8 seq map struct }
/// ```
#[macro_export]
macro_rules! serializer_unsupported {
    (err = ($err:expr); $($kind:tt)*) => { $($crate::serializer_unsupported! { @$kind ($err) })* };
    (@bool ($err:expr)) => { $crate::serializer_unsupported! { @value serialize_bool(bool) ($err) } };
    (@i8 ($err:expr)) => { $crate::serializer_unsupported! { @value serialize_i8(i8) ($err) } };
    (@i16 ($err:expr)) => { $crate::serializer_unsupported! { @value serialize_i16(i16) ($err) } };
    (@i32 ($err:expr)) => { $crate::serializer_unsupported! { @value serialize_i32(i32) ($err) } };
    (@i64 ($err:expr)) => { $crate::serializer_unsupported! { @value serialize_i64(i64) ($err) } };
    (@i128 ($err:expr)) => { $crate::serializer_unsupported! { @value serialize_i128(i128) ($err) } };
    (@u8 ($err:expr)) => { $crate::serializer_unsupported! { @value serialize_u8(u8) ($err) } };
    (@u16 ($err:expr)) => { $crate::serializer_unsupported! { @value serialize_u16(u16) ($err) } };
    (@u32 ($err:expr)) => { $crate::serializer_unsupported! { @value serialize_u32(u32) ($err) } };
    (@u64 ($err:expr)) => { $crate::serializer_unsupported! { @value serialize_u64(u64) ($err) } };
    (@u128 ($err:expr)) => { $crate::serializer_unsupported! { @value serialize_u128(u128) ($err) } };
    (@f32 ($err:expr)) => { $crate::serializer_unsupported! { @value serialize_f32(f32) ($err) } };
    (@f64 ($err:expr)) => { $crate::serializer_unsupported! { @value serialize_f64(f64) ($err) } };
    (@char ($err:expr)) => { $crate::serializer_unsupported! { @value serialize_char(char) ($err) } };
    (@str ($err:expr)) => { $crate::serializer_unsupported! { @value serialize_str(&str) ($err) } };
    (@bytes ($err:expr)) => { $crate::serializer_unsupported! { @value serialize_bytes(&[u8]) ($err) } };
    (@none ($err:expr)) => { $crate::serializer_unsupported! { @value serialize_none() ($err) } };
    (@unit ($err:expr)) => { $crate::serializer_unsupported! { @value serialize_unit() ($err) } };
    (@unit_struct ($err:expr)) => {
        $crate::serializer_unsupported! { @value serialize_unit_struct(&'static str) ($err) }
    };
    (@unit_variant ($err:expr)) => {
        $crate::serializer_unsupported! { @value serialize_unit_variant(&'static str, u32, &'static str) ($err) }
    };
    (@some ($err:expr)) => { $crate::serializer_unsupported! { @generic serialize_some() ($err) } };
    (@newtype_struct ($err:expr)) => {
        $crate::serializer_unsupported! { @generic serialize_newtype_struct(&'static str) ($err) }
    };
    (@newtype_variant ($err:expr)) => {
        $crate::serializer_unsupported! { @generic serialize_newtype_variant(&'static str, u32, &'static str) ($err) }
    };
    (@seq ($err:expr)) => {
        $crate::serializer_unsupported! { @compound SerializeSeq serialize_seq(Option<usize>) ($err) }
    };
    (@tuple ($err:expr)) => {
        $crate::serializer_unsupported! { @compound SerializeTuple serialize_tuple(usize) ($err) }
    };
    (@tuple_struct ($err:expr)) => {
        $crate::serializer_unsupported! {
            @compound SerializeTupleStruct serialize_tuple_struct(&'static str, usize) ($err)
        }
    };
    (@tuple_variant ($err:expr)) => {
        $crate::serializer_unsupported! {
            @compound SerializeTupleVariant serialize_tuple_variant(&'static str, u32, &'static str, usize) ($err)
        }
    };
    (@map ($err:expr)) => {
        $crate::serializer_unsupported! { @compound SerializeMap serialize_map(Option<usize>) ($err) }
    };
    (@struct ($err:expr)) => {
        $crate::serializer_unsupported! { @compound SerializeStruct serialize_struct(&'static str, usize) ($err) }
    };
    (@struct_variant ($err:expr)) => {
        $crate::serializer_unsupported! {
            @compound SerializeStructVariant serialize_struct_variant(&'static str, u32, &'static str, usize) ($err)
        }
    };
    (@value $method:ident($($argument:ty),*) ($err:expr)) => {
        fn $method(self, $(_: $argument),*) -> Result<Self::Ok, Self::Error> {
            Err($err)
        }
    };
    (@generic $method:ident($($argument:ty),*) ($err:expr)) => {
        fn $method<T: ?Sized + $crate::serde::Serialize>(self, $(_: $argument,)* _: &T) -> Result<Self::Ok, Self::Error> {
            Err($err)
        }
    };
    (@compound $type:ident $method:ident($($argument:ty),*) ($err:expr)) => {
        type $type = $crate::serde::ser::Impossible<Self::Ok, Self::Error>;
        fn $method(self, $(_: $argument),*) -> Result<Self::$type, Self::Error> {
            Err($err)
        }
    };
}

//! Owns a list that is usually short. Invariant: it takes no more memory than its items need.

use smallvec::SmallVec;

/// A list that is usually short. It grows and shrinks [unpacked](Few::unpack), which takes its memory over as it is.
///
/// State: with two or more, a list that is as long as it has to be.
#[derive(Clone, Debug, Default)]
pub(crate) enum Few<T> {
    #[default]
    None,
    One(T),
    /// Two or more.
    Many(Box<[T]>),
}

impl<T> Few<T> {
    /// Puts a list back.
    pub(crate) fn pack(mut list: SmallVec<[T; 1]>) -> Self {
        if list.len() > 1 { Self::Many(list.into_boxed_slice()) } else { list.pop().map_or(Self::None, Self::One) }
    }

    /// Gives a list that can be worked on.
    pub(crate) fn unpack(self) -> SmallVec<[T; 1]> {
        match self {
            Self::None => SmallVec::new(),
            Self::One(one) => SmallVec::from_buf([one]),
            Self::Many(many) => SmallVec::from_vec(many.into_vec()),
        }
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        match self {
            Self::None => &[],
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

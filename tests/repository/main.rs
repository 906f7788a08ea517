//! The repository's claims about itself: documents, the README's program, the order of the layers.

mod documents;
mod layers;
mod readme;

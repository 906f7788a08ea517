//! What the repository says of itself: documents, the README's program, the order of the layers.

mod documents;
mod layers;
mod readme;

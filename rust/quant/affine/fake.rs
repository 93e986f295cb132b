//! There and back at once, and its gradients.

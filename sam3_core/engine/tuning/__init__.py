"""Fine-tuning: small adapters on decoder and scoring, taught by reviewed images. A process of its own, see
``sam3_core.tuning``."""

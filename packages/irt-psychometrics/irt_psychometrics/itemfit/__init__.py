"""How well a calibration describes the answers: of an item, a learner, a form, and of two windows compared."""

"""Every family of transforms: one line each, run through all contracts (``build`` as in ``tests/registry.py``)."""

from invjax import transforms as tf

IMAGE = (6, 8, 2)
SHAPES = {"quarter_turns": (7, 7, 2), "dihedral": (6, 6, 1), "shears_square": (7, 7, 1), "shift_time": (5, 3, 4, 1)}

TRANSFORMS = {
    "reflect": lambda r: tf.Reflect(),
    "quarter_turns": lambda r: tf.QuarterTurns(),
    "dihedral": lambda r: tf.dihedral(),
    "shift": lambda r: tf.Shift((6, 8)),
    "shift_time": lambda r: tf.shift_time(5, max_shift=3),
    "shift_reflect": lambda r: tf.Shift((8,), (1,), 7, "reflect"),
    "fourier_shift": lambda r: tf.FourierShift(r.uniform(1, 3)),
    "shears": lambda r: tf.ShearRotation(),
    "shears_square": lambda r: tf.ShearRotation(r.uniform(1, 3)),
    "rotate": lambda r: tf.Rotate(r.uniform(0.5, 1)),
    "scale": lambda r: tf.Scale(r.uniform(1.1, 1.3)),
    "affine": lambda r: tf.affine(r.uniform(0.5, 1), boundary="reflect"),
    "pan_tilt_rotate": lambda r: tf.pan_tilt_rotate(r.uniform(0.1, 0.4)),
    "cpab": lambda r: tf.CPABDiffeomorphism((3, 2), r.uniform(0.1, 0.3), boundary="reflect"),
    "noise": lambda r: tf.RandomNoise(r.uniform(0.1, 0.3)),
    "phase_error": lambda r: tf.RandomPhaseError(r.uniform(0.5, 2)),
    "product": lambda r: tf.FourierShift(r.uniform(1, 3)) @ tf.Reflect((0,)),
}
COMPLEX = ("phase_error",)  # for complex arrays only
UNITARY = (
    *("reflect", "quarter_turns", "dihedral", "shift", "shift_time", "product"),
    *("fourier_shift", "shears", "shears_square", "phase_error"),
)


def shape_of(name):
    return SHAPES.get(name, IMAGE)

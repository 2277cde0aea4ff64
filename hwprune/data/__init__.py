"""Where batches come from.

batches.py   what a batch source is, and `Data`: one for training, one for validation, one for calibration
augment.py   random crops, flips and small affine changes of whole batches, seeded
arrays.py    images that fit in memory: npz files, CIFAR-10, the handwritten digits
folders.py   class folders of image files, read as they are needed
loaders.py   the user's own loaders
load.py      from what the user types to `Data`
fits.py      whether batches and network go together
"""

from hwprune.data.batches import Batches as Batches
from hwprune.data.batches import Data as Data
from hwprune.data.fits import check_fits as check_fits
from hwprune.data.load import load_data as load_data
from hwprune.data.loaders import from_loaders as from_loaders

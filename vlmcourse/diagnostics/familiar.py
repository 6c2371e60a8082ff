"""Is a picture like those that a model learned from?  ``vlmcourse ask`` says so where it is not.

    fit_familiar                  from what the eye says of training pictures
    Familiar.foreign              which pictures lie farther off than training pictures do
    save_familiar, read_familiar  a small file beside the weights, of use with this eye alone

The mean over a picture's patches is one point. How far it lies from the middle of the training pictures is
counted in their own standard deviations: the Mahalanobis distance.

Source: Lee et al. 2018, arXiv:1807.03888, section 2.1.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from safetensors.torch import save_file
from torch import Tensor, nn

from vlmcourse.models.native import PatchRow
from vlmcourse.training.checkpoints import written_whole
from vlmcourse.training.reading import CheckpointError, read_tensors
from vlmcourse.training.resume import hash_weights

RIDGE = 0.01  # added to every variance, as a share of their mean: some directions hardly vary at all
INSIDE = 0.99  # so many of the training pictures that were not fitted are to be familiar

_Patches = Float[Tensor, "image patch features"] | PatchRow  # a row where pictures have different sizes


class Familiar(NamedTuple):
    """Where the pictures of a training lie among all that the eye can say."""

    mean: Float[Tensor, "features"]
    inverse: Float[Tensor, "features features"]  # of the covariance
    limit: Float[Tensor, ""]  # distances above it are foreign

    def distance(self, features: _Patches) -> Float[Tensor, "image"]:
        """How far each picture lies from the middle."""
        away = _middles(features.float()) - self.mean
        return torch.einsum("bi,ij,bj->b", away, self.inverse, away).clamp(min=0).sqrt()

    def foreign(self, features: _Patches) -> Bool[Tensor, "image"]:
        """Whether each picture is unlike those of the training."""
        return self.distance(features) > self.limit


def fit_familiar(features: _Patches) -> Familiar:
    """Fit mean and covariance to every other picture; the rest, which they have not seen, sets the limit."""
    points = _middles(features[::2].to(torch.float64))
    covariance = torch.cov(points.T)
    covariance += RIDGE * covariance.diagonal().mean() * torch.eye(len(covariance))
    inverse = torch.linalg.inv(covariance).float().contiguous()
    unlimited = Familiar(points.mean(dim=0).float(), inverse, torch.tensor(torch.inf))
    return unlimited._replace(limit=unlimited.distance(features[1::2]).quantile(INSIDE))


def _middles(features: _Patches) -> Float[Tensor, "image features"]:
    """The mean over each picture's patches."""
    if isinstance(features, PatchRow):
        return torch.stack([picture.mean(dim=0) for picture in features.split()])
    return features.mean(dim=1)


def save_familiar(familiar: Familiar, eye: nn.Module, path: Path) -> Path:
    """Write it with the hash of the eye that it was fitted to."""
    with written_whole(path) as writing:
        save_file({**familiar._asdict(), "eye": _mark(eye)}, writing)
    return path


def read_familiar(path: Path, eye: nn.Module) -> Familiar:
    """What save_familiar wrote.

    Raises:
        CheckpointError: if it is damaged, or was fitted to another eye.
    """
    tensors = read_tensors(path)
    if set(tensors) != {*Familiar._fields, "eye"}:
        raise CheckpointError(f"{path} does not say which pictures are familiar")
    if not torch.equal(tensors.pop("eye"), _mark(eye)):
        raise CheckpointError(f"{path} was fitted to another vision encoder")
    return Familiar(**tensors)


def _mark(eye: nn.Module) -> Tensor:
    return torch.tensor(list(bytes.fromhex(hash_weights(eye))), dtype=torch.uint8)

"""A vector-quantized autoencoder (van den Oord et al. 2017), its codebook by gradients or `ema`: `--plugin vq.py`."""

from torch import cdist, nn

from recbench import Architecture, ArchitectureEntry, Deterministic, Requirements, hookimpl


class SmallVQ(Architecture):
    def __init__(self, shape, *, width=32, codes=64, dim=8, beta=0.25, ema=False, downs=2):
        super().__init__()
        self.latent_shape = dim, shape.height // 2**downs, shape.width // 2**downs
        self.has_prior = False
        self.beta, self.ema = beta, ema
        self.codebook = nn.Embedding(codes, dim).requires_grad_(not ema)
        self.register_buffer("totals", nn.functional.pad(self.codebook.weight.detach(), (0, 1), value=1))
        inputs = [shape.channels, *[width] * (downs - 1)]
        down = [nn.Sequential(nn.Conv2d(channels, width, 4, 2, 1), nn.ReLU()) for channels in inputs]
        up = [nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(width, channels, 4, 2, 1)) for channels in reversed(inputs)]
        self.encoder = nn.Sequential(*down, nn.Conv2d(width, dim, 3, 1, 1))
        self.decoder = nn.Sequential(nn.Conv2d(dim, width, 3, 1, 1), *up, nn.Tanh())

    def encode(self, images):
        maps = self.encoder(images).float()
        rows = maps.detach().permute(0, 2, 3, 1).flatten(0, 2)
        nearest = cdist(rows, self.codebook.weight.detach()).argmin(1)
        codes = self.codebook(nearest).unflatten(0, (-1, *maps.shape[2:])).permute(0, 3, 1, 2)
        penalty = self.beta * (maps - codes.detach()).square()
        if not self.ema:
            penalty = penalty + (codes - maps.detach()).square()
        elif self.training:  # moving averages of the sum of the rows at each code, and of their number (appendix A.1)
            self.totals.mul_(0.99).index_add_(0, nearest, nn.functional.pad(rows, (0, 1), value=1), alpha=0.01)
            self.codebook.weight.copy_(self.totals[:, :-1] / self.totals[:, -1:].clamp_min(1e-5))
        return Deterministic(maps + (codes - maps).detach(), commitment=penalty.sum((1, 2, 3)))

    def decode(self, z):
        return self.decoder(z)


@hookimpl
def recbench_architectures():
    size = Requirements(multiple_of=4, minimum_size=16)
    yield ArchitectureEntry.of(SmallVQ, "small_vq", requirements=size, has_prior=False, has_kl=False)

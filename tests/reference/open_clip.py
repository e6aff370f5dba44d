"""A plain CLIP as open_clip builds it: attention as ``nn.MultiheadAttention``, projections as bare matrices."""

import torch
from torch import Tensor, nn


class QuickGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int, quick_gelu: bool):
        super().__init__()
        self.c_fc, self.c_proj = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.gelu = QuickGELU() if quick_gelu else nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(self.gelu(self.c_fc(x)))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int, quick_gelu: bool):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = Mlp(width, hidden, quick_gelu)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        h = self.ln_1(x)
        x = x + self.attn(h, h, h, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    def __init__(self, width: int, layers: int, heads: int, hidden: int, quick_gelu: bool):
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads, hidden, quick_gelu) for _ in range(layers))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self.resblocks:
            x = block(x, mask)
        return x


class Visual(nn.Module):
    def __init__(self, size: int, patch: int, width: int, layers: int, heads: int, hidden: int, dims: int, quick: bool):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.positional_embedding = nn.Parameter(torch.zeros((size // patch) ** 2 + 1, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = Transformer(width, layers, heads, hidden, quick)
        self.proj = nn.Parameter(torch.zeros(width, dims))

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.conv1(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(patches), 1, -1), patches], dim=1) + self.positional_embedding
        return self.ln_post(self.transformer(self.ln_pre(x))[:, 0]) @ self.proj


class OpenClip(nn.Module):
    """Two towers of two sizes, every parameter at random."""

    def __init__(self, quick_gelu: bool, seed: int = 0, size: int = 32, patch: int = 8, dims: int = 24):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.visual = Visual(size, patch, 32, 3, 4, 96, dims, quick_gelu)
            self.transformer = Transformer(16, 2, 2, 32, quick_gelu)
            self.token_embedding = nn.Embedding(49408, 16)
            self.positional_embedding = nn.Parameter(torch.zeros(20, 16))
            self.ln_final = nn.LayerNorm(16)
            self.text_projection = nn.Parameter(torch.zeros(16, dims))
            self.logit_scale = nn.Parameter(torch.tensor(2.0))
            for parameter in self.parameters():
                if parameter.ndim:
                    scale = 1.5 / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 0.5
                    parameter.data += scale * torch.randn_like(parameter)

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Normalized pixels (B, 3, H, W) -> (B, D)."""
        return self.visual(pixels)

    def encode_text(self, ids: Tensor) -> Tensor:
        """(B, T) token ids, end mark last of all marks -> (B, D)."""
        length = ids.shape[1]
        mask = torch.full((length, length), float("-inf")).triu(1)
        x = self.token_embedding(ids) + self.positional_embedding[:length]
        x = self.ln_final(self.transformer(x, mask))
        return x[torch.arange(len(ids)), ids.argmax(1)] @ self.text_projection

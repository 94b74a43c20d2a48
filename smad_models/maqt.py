"""The MAQT network, whole: face frames, eye movement and gaze to emotion, intensity, valence or arousal.

Each modality becomes a sequence of 128-d features: a ResNet-18 over 8 face frames, an LSTM over 32 steps of eye
movement, another over 32 steps of gaze. Each sequence is projected twice to 64-d: by a projection of its own
(*specific*) and by one that all three share (*invariant*). The 72 invariant tokens then question the 72 specific ones
in a two-layer cross-transformer, and the mean of what comes out goes to the head of the task. In training a linear
discriminator names the modality of each stream: the invariant projection is to make that impossible, the specific ones
easy.

The sister network EMERT (variant `emert`) goes by the same names in public: its tokens are 32-d, its projections have
two layers, its head has one. Comments give MAQT's width of 64.

The published code calls the three modalities vision, audio and language, names left over from another model, and uses
`v` for the face in one place and for the gaze in another. Here they are face, eye and gaze throughout; `checkpoints.py`
has the map.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smad_models.inputs import Convention, Inputs
from smad_models.resnet import FEATURES, ResNet18

Variant = Literal["va", "discrete", "intensity", "emert"]

MODALITIES = ("face", "eye", "gaze")  # the order of tokens, and the discriminator's classes 0, 1, 2
SEQUENCE = 128  # width of each modality's sequence
WIDTHS: dict[Variant, int] = {"va": 64, "discrete": 64, "intensity": 64, "emert": 32}  # of the fused tokens
HEADS = 8
HEAD_WIDTH = 64  # of one attention head, whatever the tokens' width
DEPTH = 2


class Output(NamedTuple):
    """What the network says of B clips; what its variant has no head for, or was not asked for, is None."""

    fused: Tensor  # (B, 64; emert 32) the mean over the tokens, which the heads see
    value: Tensor | None  # (B, 1) valence or arousal, unbounded
    emotion: Tensor | None  # (B, emotions) logits
    intensity: Tensor | None  # (B, 1) unbounded
    invariant_domains: Tensor | None  # (B, 3 modalities, 3 classes) logits behind the gradient reversal
    specific_domains: Tensor | None  # (B, 3 modalities, 3 classes) logits


class _ReverseGradient(torch.autograd.Function):
    """The identity whose gradient is turned round (Ganin & Lempitsky 2015, lambda = 1 throughout)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return -gradient


class CrossAttention(nn.Module):
    """The target questions the source, which has one norm for its keys and another for its values."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = HEADS * HEAD_WIDTH
        self.norm_query = nn.LayerNorm(width)
        self.norm_key = nn.LayerNorm(width)
        self.norm_value = nn.LayerNorm(width)
        self.to_query = nn.Linear(width, inner, bias=False)
        self.to_key = nn.Linear(width, inner, bias=False)
        self.to_value = nn.Linear(width, inner, bias=False)
        self.to_out = nn.Linear(inner, width)
        self.dropout = nn.Dropout(0.5)

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        query = self._heads(self.to_query(self.norm_query(target)))  # (B, 8, T, 64)
        key = self._heads(self.to_key(self.norm_key(source)))  # (B, 8, T, 64)
        value = self._heads(self.to_value(self.norm_value(source)))  # (B, 8, T, 64)
        heads = F.scaled_dot_product_attention(query, key, value)  # (B, 8, T, 64); scale 1 / sqrt(64)
        return self.dropout(self.to_out(heads.transpose(1, 2).flatten(2)))  # (B, T, 64)

    @staticmethod
    def _heads(x: Tensor) -> Tensor:
        return x.unflatten(2, (HEADS, HEAD_WIDTH)).transpose(1, 2)  # (B, T, 8 * 64) -> (B, 8, T, 64), head-major


class FeedForward(nn.Module):
    """The transformer's perceptron, as wide inside as outside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, width)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(F.gelu(self.inner(self.norm(x))))  # (B, T, 64); the exact GELU, not its tanh form
        return self.dropout(self.outer(x))  # (B, T, 64)


class CrossLayer(nn.Module):
    """One pre-norm layer: only the target is updated, the source stays what it was."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = CrossAttention(width)
        self.feed_forward = FeedForward(width)

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        target = target + self.attention(target, source)  # (B, T, 64)
        return target + self.feed_forward(target)  # (B, T, 64)


class Fusion(nn.Module):
    """The cross-transformer: invariant tokens (target) question specific ones (source)."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.source_position = nn.Parameter(torch.randn(1, tokens, width))
        self.target_position = nn.Parameter(torch.randn(1, tokens, width))
        self.dropout = nn.Dropout(0.1)
        self.layers = nn.ModuleList(CrossLayer(width) for _ in range(DEPTH))

    def forward(self, specific: Tensor, invariant: Tensor) -> Tensor:
        source = self.dropout(specific + self.source_position)  # (B, T, 64)
        target = self.dropout(invariant + self.target_position)  # (B, T, 64)
        for layer in self.layers:
            target = layer(target, source)  # (B, T, 64)
        return target  # no final norm


def _projection(variant: Variant) -> nn.Module:
    """A sequence's features to tokens: ``(B, T, 128)`` to ``(B, T, 64)``."""
    if variant == "emert":
        return nn.Sequential(nn.Linear(SEQUENCE, 64), nn.LeakyReLU(0.1), nn.Linear(64, WIDTHS[variant]))
    return nn.Linear(SEQUENCE, WIDTHS[variant])


class Maqt(nn.Module):
    """MAQT with the head of ``variant``.

    Parameters
    ----------
    variant
        ``va``: one value (valence, or arousal); ``discrete``: an emotion; ``intensity``: an emotion and its intensity;
        ``emert``: an emotion, by the narrower sister network.
    convention
        How cached facts become this model's input; see `inputs.py`. ``model.inputs`` does it, for `forward`.
    emotions, channels, frames, steps
        Number of emotions, of eye channels, of face frames and of steps; the published network's are the defaults.
    """

    def __init__(
        self,
        variant: Variant,
        *,
        convention: Convention = "standard",
        emotions: int = 7,
        channels: int = 39,
        frames: int = 8,
        steps: int = 32,
    ) -> None:
        if variant not in get_args(Variant):
            raise ValueError(f"variant {variant!r} is none of {', '.join(get_args(Variant))}")
        super().__init__()
        self.variant = variant
        self.width = WIDTHS[variant]
        self.lengths = {"face": frames, "eye": steps, "gaze": steps}
        self.inputs = Inputs(convention, channels=channels)
        self.face_backbone = ResNet18()
        self.face_projection = nn.Linear(FEATURES, SEQUENCE)
        self.eye_lstm = nn.LSTM(channels, SEQUENCE, num_layers=3, batch_first=True)
        self.gaze_lstm = nn.LSTM(2, SEQUENCE, num_layers=3, batch_first=True)
        self.dropout = nn.Dropout(0.5)
        self.specific = nn.ModuleDict({name: _projection(variant) for name in MODALITIES})
        self.invariant = _projection(variant)
        self.discriminator = nn.Linear(self.width, len(MODALITIES))
        self.fusion = Fusion(frames + 2 * steps, self.width)
        if variant == "va":
            self.value_head = nn.Sequential(
                *(nn.Linear(self.width, 32), nn.LeakyReLU(0.01), nn.Linear(32, 16), nn.LeakyReLU(0.01)),
                *(nn.Linear(16, 8), nn.LeakyReLU(0.01), nn.Linear(8, 1)),
            )
        elif variant == "discrete":
            # Two linear maps with nothing between them: one map in effect, but two sets of published weights.
            self.emotion_head: nn.Module = nn.Sequential(nn.Linear(self.width, 32), nn.Linear(32, emotions))
        else:
            self.emotion_head = nn.Linear(self.width, emotions)
        if variant == "intensity":
            self.intensity_head = nn.Linear(self.width, 1)

    def embed_faces(self, face: Tensor) -> Tensor:
        """``(B, frames, 3, H, W)`` float pixels to ``(B, frames, 512)``, each frame by itself."""
        features = self.face_backbone(face.flatten(0, 1))  # (B * frames, 512)
        return features.unflatten(0, face.shape[:2])  # (B, frames, 512)

    def forward(self, face: Tensor, eye: Tensor, gaze: Tensor, *, domains: bool = False) -> Output:
        """Run the network on model inputs, as ``model.inputs`` makes them of cached arrays.

        Parameters
        ----------
        face
            ``(B, frames, 3, H, W)`` float pixels, or ``(B, frames, 512)``: what `embed_faces` made of them before.
        eye, gaze
            ``(B, steps, channels)`` and ``(B, steps, 2)``, finite.
        domains
            Also name the modality of each stream; training needs it, inference does not.

        Raises
        ------
        ValueError
            If a sequence has not the length that the positional tables were made for: a shorter one would run, with the
            positions of every later modality shifted.
        """
        for name, x in zip(MODALITIES, (face, eye, gaze), strict=True):
            if x.shape[1] != self.lengths[name]:
                raise ValueError(f"{name}: this network takes sequences of {self.lengths[name]}, got {x.shape[1]}")
        if face.ndim == 5:
            face = self.embed_faces(face)  # (B, 8, 512)
        sequences = {
            "face": self.dropout(self.face_projection(face)),  # (B, 8, 128)
            "eye": self.dropout(self.eye_lstm(eye)[0]),  # (B, 32, 128)
            "gaze": self.dropout(self.gaze_lstm(gaze)[0]),  # (B, 32, 128)
        }
        specific = [self.specific[name](x) for name, x in sequences.items()]  # (B, 8 | 32 | 32, 64)
        invariant = [self.invariant(x) for x in sequences.values()]  # (B, 8 | 32 | 32, 64)
        tokens = self.fusion(torch.cat(specific, dim=1), torch.cat(invariant, dim=1))  # (B, 72, 64)
        fused = tokens.mean(dim=1)  # (B, 64)
        return Output(
            fused=fused,
            value=self.value_head(fused) if self.variant == "va" else None,  # (B, 1)
            emotion=self.emotion_head(fused) if self.variant != "va" else None,  # (B, emotions)
            intensity=self.intensity_head(fused) if self.variant == "intensity" else None,  # (B, 1)
            # The means are over the projected sequences: positions would give the modality away.
            invariant_domains=self._name_modalities(invariant, reverse=True) if domains else None,  # (B, 3, 3)
            specific_domains=self._name_modalities(specific, reverse=False) if domains else None,  # (B, 3, 3)
        )

    def _name_modalities(self, sequences: list[Tensor], *, reverse: bool) -> Tensor:
        means = torch.stack([x.mean(dim=1) for x in sequences], dim=1)  # (B, 3, 64)
        return self.discriminator(_ReverseGradient.apply(means) if reverse else means)  # (B, 3, 3)


def draw_lstm(lstm: nn.LSTM) -> None:
    """Xavier weights gate by gate, forget gates open (Glorot & Bengio 2010; Jozefowicz et al. 2015).

    PyTorch's default lets a sequence fade to about a hundredth over three layers, below the positional tables of the
    fusion: fine for the published 13,000 steps, hopeless for a hundred.
    """
    for name, parameter in lstm.named_parameters():
        if "weight" in name:
            for gate in parameter.data.chunk(4):  # input, forget, cell, output
                nn.init.xavier_uniform_(gate)
        else:
            parameter.data.zero_()
            if "bias_ih" in name:
                parameter.data.chunk(4)[1].fill_(1.0)

"""A generator and a discriminator with PyTorch, on handwritten digits: two optimizers that take turns."""

import argparse
import time

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader

NOISE = 16


def mlp(inputs, outputs):
    return nn.Sequential(
        nn.Linear(inputs, 64), nn.LeakyReLU(0.2), nn.Dropout(0.1), nn.Linear(64, outputs), nn.Tanh()
    )


parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--images", type=int, default=1797)
parser.add_argument("--pause", type=float, default=0.0, help="seconds of extra work in each step")
options = parser.parse_args()

torch.manual_seed(0)
images = torch.tensor(load_digits().data[: options.images], dtype=torch.float32) / 8 - 1
loader = DataLoader(images, batch_size=32, shuffle=True)
generator, discriminator = mlp(NOISE, 64), mlp(64, 1)
optimizer_g = torch.optim.Adam(generator.parameters(), lr=2e-3, betas=(0.5, 0.999))
optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=2e-3, betas=(0.5, 0.999))
judge = nn.BCEWithLogitsLoss()
fixed_noise = torch.randn(8, NOISE)

for epoch in range(options.epochs):
    total_d = total_g = 0.0
    for real in loader:
        discriminator.zero_grad()
        loss_real = judge(discriminator(real), torch.ones(len(real), 1))
        loss_real.backward()
        fake = generator(torch.randn(len(real), NOISE))
        loss_fake = judge(discriminator(fake.detach()), torch.zeros(len(real), 1))
        loss_fake.backward()
        optimizer_d.step()

        generator.zero_grad()
        loss_g = judge(discriminator(fake), torch.ones(len(real), 1))
        loss_g.backward()
        optimizer_g.step()

        total_d += (loss_real + loss_fake).item()
        total_g += loss_g.item()
        time.sleep(options.pause)
    with torch.no_grad():
        sample = generator(fixed_noise)
    print(
        f"epoch {epoch}: discriminator {total_d:.6f}, generator {total_g:.6f}, sample {sample.mean():.6f}",
        flush=True,
    )
    torch.save(generator.state_dict(), f"generator-{epoch}.pt")
torch.save([generator.state_dict(), discriminator.state_dict()], "result.pt")

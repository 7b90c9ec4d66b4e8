"""Q-learning with a replay buffer and a target network, in PyTorch, on a small walk of its own."""

import argparse
import random
import time
from collections import deque
from itertools import count

import numpy as np
import torch
from torch import nn


class Walk:
    """Ten places in a row; the goal is at the right end, and the wind blows at random."""

    def __init__(self, seed):
        self.wind = np.random.default_rng(seed)
        self.place = 0

    def reset(self):
        self.place = int(self.wind.integers(0, 5))
        return self.seen()

    def seen(self):
        return np.eye(10, dtype=np.float32)[self.place]

    def step(self, action):
        move = (1 if action else -1) * (1 if self.wind.random() > 0.2 else -1)
        self.place = min(9, max(0, self.place + move))
        return self.seen(), float(self.place == 9), self.place == 9


class Agent:
    def __init__(self):
        self.network, self.target = self.make(), self.make()
        self.target.load_state_dict(self.network.state_dict())
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-3)
        self.memory = deque(maxlen=300)
        self.epsilon = 1.0

    @staticmethod
    def make():
        return nn.Sequential(nn.Linear(10, 24), nn.ReLU(), nn.Linear(24, 2))

    def act(self, state):
        if random.random() < self.epsilon:
            return random.randrange(2)
        with torch.no_grad():
            return int(self.network(torch.from_numpy(state)).argmax())

    def learn(self):
        if len(self.memory) < 32:
            return
        states, actions, rewards, after, over = zip(*random.sample(self.memory, 32), strict=True)
        values = self.network(torch.tensor(np.array(states))).gather(1, torch.tensor(actions)[:, None])[:, 0]
        with torch.no_grad():
            best = self.target(torch.tensor(np.array(after))).max(1).values
        wanted = torch.tensor(rewards) + 0.95 * best * (1 - torch.tensor(over, dtype=torch.float32))
        self.optimizer.zero_grad()
        nn.functional.smooth_l1_loss(values, wanted).backward()
        self.optimizer.step()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--episodes", type=int, default=60)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds of extra work in each step")
    options = parser.parse_args()
    random.seed(0)
    torch.manual_seed(0)
    walk, agent, average = Walk(3), Agent(), 0.0
    for episode in count(1):
        state, steps, over = walk.reset(), 0, False
        while not over and steps < 40:
            action = agent.act(state)
            after, reward, over = walk.step(action)
            agent.memory.append((state, action, reward, after, over))
            agent.learn()
            state = after
            steps += 1
            time.sleep(options.pause)
        agent.epsilon = max(0.05, agent.epsilon * 0.95)
        average += 0.1 * (over - average)
        if episode % 5 == 0:
            agent.target.load_state_dict(agent.network.state_dict())
        print(
            f"episode {episode}: {steps} steps, average {average:.6f}, {len(agent.memory)} remembered",
            flush=True,
        )
        if episode >= options.episodes or average > 0.999:
            break
    torch.save(agent.network.state_dict(), "result.pt")


if __name__ == "__main__":
    main()

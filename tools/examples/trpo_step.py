"""Trust-region policy optimization: the natural gradient by CG on a Fisher operator.

    python tools/examples/trpo_step.py

A cart on a track is to come to rest in the middle. Its state is its position and its velocity; a
small network pushes it to the left, not at all, or to the right. With g the gradient of the
surrogate, the expected advantage of a new policy over the old one, and F the Fisher matrix of the
policy's logits, a step solves

    (F + damping) x = g                   by conjugate gradients: F is never made, only products
    step = x sqrt(2 max_kl / (x . g))     the longest whose KL is max_kl, as far as F tells

and is halved until KL(old policy, new policy) is at most max_kl and the surrogate has improved
(Schulman et al., 2015).
"""

from types import SimpleNamespace

import numpy as np
import scipy.sparse.linalg
import tensorflow.compat.v1 as tf

from tf1xent.curvature import FisherOperator
from tf1xent.nn import sparse_softmax_cross_entropy_with_logits

NUM_CARTS, NUM_TIMES, NUM_HIDDEN, DISCOUNT = 64, 40, 16, 0.95
MAX_KL, DAMPING = 0.01, 1e-3


def build_policy():
    """Adds the policy, and what its steps need, to the default graph."""
    p = SimpleNamespace(
        states=tf.placeholder(tf.float64, [None, 2]),
        actions=tf.placeholder(tf.int64, [None]),
        advantages=tf.placeholder(tf.float64, [None]),
        old_logits=tf.placeholder(tf.float64, [None, 3]),
    )
    shapes = {"w1": [2, NUM_HIDDEN], "b1": [NUM_HIDDEN], "w2": [NUM_HIDDEN, 3], "b2": [3]}
    draws = tf.random_normal_initializer(stddev=0.5, seed=0)
    p.weights = [tf.get_variable(name, shapes[name], tf.float64, draws) for name in shapes]
    w1, b1, w2, b2 = p.weights
    p.logits = tf.matmul(tf.tanh(tf.matmul(p.states, w1) + b1), w2) + b2
    p.chances = tf.nn.softmax(p.logits)
    new, old = (
        sparse_softmax_cross_entropy_with_logits(labels=p.actions, logits=logits)
        for logits in (p.logits, p.old_logits)
    )
    p.surrogate = tf.reduce_mean(tf.exp(old - new) * p.advantages)
    gaps = tf.nn.log_softmax(p.old_logits) - tf.nn.log_softmax(p.logits)
    p.kl = tf.reduce_mean(tf.reduce_sum(tf.nn.softmax(p.old_logits) * gaps, axis=1))
    p.gradient = tf.gradients(p.surrogate, p.weights)
    p.new_weights = [tf.placeholder(tf.float64, weight.shape) for weight in p.weights]
    p.assign = tf.group(*map(tf.assign, p.weights, p.new_weights))
    return p


def drive(session, p, random):
    """Lets all carts drive; returns their mean reward, and what a step is fed."""
    state = random.uniform(-1, 1, size=[NUM_CARTS, 2])
    states, actions, rewards = [], [], []
    for _ in range(NUM_TIMES):
        states.append(state)
        chances = session.run(p.chances, {p.states: state})
        drawn = random.uniform(size=[NUM_CARTS, 1])
        actions.append((chances[:, :2].cumsum(axis=1) < drawn).sum(axis=1))
        velocity = state[:, 1] + 0.2 * (actions[-1] - 1)
        state = np.stack([state[:, 0] + 0.1 * velocity, velocity], axis=1)
        rewards.append(-np.square(state).sum(axis=1))
    returns = np.array(rewards)
    for time in reversed(range(NUM_TIMES - 1)):
        returns[time] += DISCOUNT * returns[time + 1]
    # The baseline: quadratic in the state and linear in time, by least squares.
    x, v = np.concatenate(states).T
    t = np.repeat(np.arange(NUM_TIMES), NUM_CARTS)
    features = np.stack([np.ones_like(x), t, x, v, x * x, x * v, v * v], axis=1)
    fit = np.linalg.lstsq(features, returns.ravel(), rcond=None)[0]
    advantages = returns.ravel() - features.dot(fit)
    feed = {p.states: np.concatenate(states), p.actions: np.concatenate(actions)}
    feed[p.advantages] = advantages / advantages.std()
    feed[p.old_logits] = session.run(p.logits, feed)
    return np.mean(rewards), feed


def step(session, p, fisher, feed):
    """Changes the weights; returns what led to it."""
    flatten, unflatten = fisher.parameters.flatten, fisher.parameters.unflatten
    old, g = (flatten(values) for values in session.run([p.weights, p.gradient], feed))
    x, _ = scipy.sparse.linalg.cg(fisher, g, atol=0)
    longest = x * np.sqrt(2 * MAX_KL / x.dot(g))
    for halvings in range(10):
        weights = unflatten(old + longest / 2**halvings)
        session.run(p.assign, dict(zip(p.new_weights, weights)))
        surrogate, kl = session.run([p.surrogate, p.kl], feed)
        # The old policy's surrogate is the mean of the advantages, 0.
        if kl <= MAX_KL and surrogate > 0:
            break
    else:
        session.run(p.assign, dict(zip(p.new_weights, unflatten(old))))
        surrogate, kl = 0.0, 0.0
    return SimpleNamespace(
        old=old, gradient=g, solution=x, surrogate=surrogate, kl=kl, states=feed[p.states]
    )


def main(num_steps=8):
    """Trains, prints a line for each step, and returns what led to each."""
    random, steps = np.random.RandomState(0), []
    batch: list = []
    with tf.Graph().as_default(), tf.Session() as session:
        p = build_policy()
        session.run(tf.global_variables_initializer())
        # Built once: a function hands each step's data to it.
        fisher = FisherOperator(session, p.logits, p.weights, lambda: batch, damping=DAMPING)
        for number in range(1, num_steps + 1):
            reward, feed = drive(session, p, random)
            batch[:], before = [feed], fisher.num_products
            steps.append(step(session, p, fisher, feed))
            products = fisher.num_products - before
            found = f"KL {steps[-1].kl:.5f}, surrogate {steps[-1].surrogate:+.4f}"
            print(f"step {number}: mean reward {reward:.3f}, {products} products, {found}")
        print(f"after them: mean reward {drive(session, p, random)[0]:.3f}")
    return steps


if __name__ == "__main__":
    main()

"""A tanh network on digits in NumPy, with training, Hessian and Gauss-Newton matrix.

The oracle of what is said about spectra: float64, written by hand, without tf1xent and TensorFlow.
"""

import functools

import numpy as np
from scipy.optimize import minimize
from sklearn.datasets import load_digits


@functools.lru_cache(maxsize=None)
def digits(num_rows=None):
    """Return (images in [0, 1], `[rows, 64]`; labels, `[rows]`)."""
    images, labels = load_digits(return_X_y=True)
    return images[:num_rows] / 16.0, labels[:num_rows]


class Network:
    """Layers of weights and bias with tanh between them; a mean of cross-entropies, and L2."""

    def __init__(self, widths, images, labels, l2=0.0):
        self.shapes = list(zip(widths[:-1], widths[1:]))
        self.size = sum(rows * columns + columns for rows, columns in self.shapes)
        self.images, self.labels, self.l2 = images, labels, l2
        self.targets = np.eye(widths[-1], dtype=images.dtype)[labels]

    def initial(self, seed=0):
        """Return parameters of Glorot's scale: for each layer weights, then bias."""
        random, parts = np.random.RandomState(seed), []
        for rows, columns in self.shapes:
            scale = np.sqrt(6.0 / (rows + columns))
            parts += [random.uniform(-scale, scale, rows * columns), np.zeros(columns)]
        return np.concatenate(parts)

    def unpack(self, parameters):
        """Return [(weights, bias)] of a vector, or of a block `[columns, size]` of them."""
        layers, begin = [], 0
        for rows, columns in self.shapes:
            end = begin + rows * columns
            weights = parameters[..., begin:end].reshape(parameters.shape[:-1] + (rows, columns))
            layers.append((weights, parameters[..., end : end + columns]))
            begin = end + columns
        return layers

    def activations(self, parameters):
        """Return what goes into each layer, and the logits."""
        layers, values = self.unpack(parameters), [self.images]
        for number, (weights, bias) in enumerate(layers):
            values.append(values[-1] @ weights + bias)
            if number < len(layers) - 1:
                values[-1] = np.tanh(values[-1])
        return values

    def losses(self, parameters):
        """Return the cross-entropy of each row."""
        logits = self.activations(parameters)[-1]
        logits = logits - logits.max(1, keepdims=True)
        return np.log(np.exp(logits).sum(1)) - (logits * self.targets).sum(1)

    def loss(self, parameters):
        """Return the mean loss, with L2."""
        return self.losses(parameters).mean() + self.l2 / 2 * parameters @ parameters

    def backward(self, parameters, values, errors):
        """Return the gradient in the parameters for one in the logits, `[rows, classes]`."""
        parts = []
        for number in reversed(range(len(self.shapes))):
            parts = [np.ravel(values[number].T @ errors), errors.sum(0)] + parts
            weights = self.unpack(parameters)[number][0]
            errors = errors @ weights.T * (1 - values[number] ** 2)
        return np.concatenate(parts)

    def probabilities(self, values):
        logits = values[-1] - values[-1].max(1, keepdims=True)
        return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)

    def gradient(self, parameters):
        """Return the gradient of the loss."""
        values = self.activations(parameters)
        errors = (self.probabilities(values) - self.targets) / len(self.images)
        return self.backward(parameters, values, errors) + self.l2 * parameters

    def train(self, parameters, num_iterations=500, tol=1e-10):
        """Return the parameters where L-BFGS ends."""
        options = {"maxiter": num_iterations, "maxcor": 20, "gtol": tol, "ftol": 0.0}
        found = minimize(
            lambda x: (self.loss(x), self.gradient(x)), parameters, jac=True, method="L-BFGS-B",
            options=options,
        )  # fmt: skip
        return found.x

    def products(self, parameters, vectors, gauss_newton=False):
        """Return the Hessian, or the Gauss-Newton matrix, times the rows of `vectors`.

        Pearlmutter's derivative along a vector of every line of the forward and backward pass.
        """
        values, layers = self.activations(parameters), self.unpack(parameters)
        probabilities = self.probabilities(values)
        errors = (probabilities - self.targets) / len(self.images)
        moves, moved = self.unpack(vectors), [None]
        for number, ((weights, _), (w, b)) in enumerate(zip(layers, moves)):
            moved.append(values[number] @ w + b[:, None, :])
            if number:
                moved[-1] += moved[number] @ weights
            if number < len(layers) - 1:
                moved[-1] *= 1 - values[number + 1] ** 2
        r = probabilities * moved[-1]
        r = (r - probabilities * r.sum(2, keepdims=True)) / len(self.images)
        parts = []
        for number in reversed(range(len(layers))):
            weights, value, slope = layers[number][0], values[number], 1 - values[number] ** 2
            by_weights = value.T @ r
            if number and not gauss_newton:
                by_weights += np.swapaxes(moved[number], 1, 2) @ errors
            parts = [by_weights.reshape(len(vectors), -1), r.sum(1)] + parts
            if number:
                r = r @ weights.T
                if not gauss_newton:
                    back = errors @ weights.T
                    r += errors @ np.swapaxes(moves[number][0], 1, 2)
                r *= slope
                if not gauss_newton:
                    r -= 2 * value * moved[number] * back
                    errors = back * slope
        return np.concatenate(parts, axis=1) + self.l2 * vectors

    def matrix(self, parameters, gauss_newton=False, block_size=64):
        """Return the Hessian, or the Gauss-Newton matrix, as a symmetric array."""
        matrix = np.empty([self.size, self.size], parameters.dtype)
        for begin in range(0, self.size, block_size):
            rows = matrix[begin : begin + block_size]
            rows[...] = self.products(
                parameters, np.eye(len(rows), self.size, begin, parameters.dtype), gauss_newton
            )
        return (matrix + matrix.T) / 2


@functools.lru_cache(maxsize=None)
def trained_on_digits():
    """Return a trained network of 760 parameters, its parameters, Hessian and GGN matrix."""
    network = Network([64, 10, 10], *digits(600))
    parameters = network.train(network.initial(), num_iterations=30)
    return (
        network,
        parameters,
        network.matrix(parameters),
        network.matrix(parameters, gauss_newton=True),
    )

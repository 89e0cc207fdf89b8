"""Which training pictures help a prediction, which harm it, and which are labelled wrong.

    python tools/examples/influential_digits.py

A multinomial logistic regression of handwritten digits; 5 % of its training labels are flipped.
The influence of a training picture is the change of a test loss that leaving it out is predicted
to make (Koh and Liang, 2017). It is negative where the picture harms: what is labelled wrong shows.
One prediction is compared with what training again without the picture gives.
"""

from types import SimpleNamespace

import numpy as np
import scipy.optimize
import tensorflow.compat.v1 as tf
from sklearn.datasets import load_digits

from tf1xent.curvature import HessianOperator, influence
from tf1xent.nn import sparse_softmax_cross_entropy_with_logits

NUM_TRAINING, NUM_TEST, SHARE_FLIPPED, L2 = 600, 300, 0.05, 0.01
BATCH_SIZE, NUM_SHOWN = 250, 3


def load_data():
    """Returns pictures [n, 65], with a 1 for the bias, their labels, and which are flipped."""
    pictures, labels = load_digits(return_X_y=True)
    random = np.random.RandomState(0)
    chosen = random.permutation(len(labels))[: NUM_TRAINING + NUM_TEST]
    pictures = np.hstack([pictures[chosen] / 16.0, np.ones([len(chosen), 1])])
    flipped = random.permutation(NUM_TRAINING)[: int(SHARE_FLIPPED * NUM_TRAINING)]
    labels = labels[chosen]
    labels[flipped] = (labels[flipped] + random.randint(1, 10, size=len(flipped))) % 10
    return pictures, labels, np.sort(flipped)


def build():
    """Adds the model and its losses to the default graph."""
    pictures = tf.placeholder(tf.float64, [None, 65])
    labels = tf.placeholder(tf.int64, [None])
    weights = tf.get_variable("weights", [65, 10], tf.float64, tf.zeros_initializer())
    new_weights = tf.placeholder(tf.float64, [65, 10])
    logits = tf.matmul(pictures, weights)
    losses = sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return SimpleNamespace(
        pictures=pictures,
        labels=labels,
        weights=weights,
        new_weights=new_weights,
        assign=tf.assign(weights, new_weights),
        losses=losses,
        loss=tf.reduce_mean(losses) + 0.5 * L2 * tf.reduce_sum(weights**2),
    )


def train(session, model, hessian):
    """Minimizes the operator's loss over its data; the minimum is what influence starts from."""

    def loss_and_gradient(flat):
        session.run(model.assign, {model.new_weights: flat.reshape(65, 10)})
        return hessian.loss(), hessian.gradient()

    options = {"maxiter": 1000, "ftol": 1e-15, "gtol": 1e-6}
    start = np.zeros(hessian.shape[0])
    found = scipy.optimize.minimize(
        loss_and_gradient, start, jac=True, method="L-BFGS-B", options=options
    )
    loss_and_gradient(found.x)


def main():
    """Prints helpful, harmful and flipped pictures; returns the influences."""
    pictures, labels, flipped = load_data()
    test = slice(NUM_TRAINING, None)
    with tf.Graph().as_default(), tf.Session() as session:
        model = build()
        session.run(tf.global_variables_initializer())
        kept = np.arange(NUM_TRAINING)

        def feeds():
            for begin in range(0, len(kept), BATCH_SIZE):
                rows = kept[begin : begin + BATCH_SIZE]
                yield {model.pictures: pictures[rows], model.labels: labels[rows]}

        def losses(rows):
            return session.run(
                model.losses, {model.pictures: pictures[rows], model.labels: labels[rows]}
            )

        hessian = HessianOperator(session, model.loss, model.weights, feeds)
        train(session, model, hessian)
        test_losses = losses(test)
        number = NUM_TRAINING + int(np.argsort(test_losses)[-10])
        of_one, of_all = (
            influence(
                session,
                tf.reduce_mean(model.losses),
                model.losses,
                hessian,
                [{model.pictures: pictures[rows], model.labels: labels[rows]}],
                feeds,
            ).values
            for rows in (slice(number, number + 1), test)
        )
        order = np.argsort(of_one)
        print(f"test picture {number}, a {labels[number]}: its loss changes by, without picture")
        for word, rows in ("harmful", order[:NUM_SHOWN]), ("helpful", order[::-1][:NUM_SHOWN]):
            shown = (f"{of_one[row]:+.4f} ({row}, labelled {labels[row]})" for row in rows)
            print(f"  most {word}: {', '.join(shown)}")
        kept = np.delete(kept, order[0])
        before = losses(slice(number, number + 1))[0]
        train(session, model, hessian)
        change = losses(slice(number, number + 1))[0] - before
        print(f"  trained again without {order[0]}: {change:+.4f}")
    harmful = np.argsort(of_all)[: len(flipped)]
    hits = np.intersect1d(harmful, flipped)
    print(f"of the {len(flipped)} that harm all test pictures most, {len(hits)} labels are flipped")
    return SimpleNamespace(of_one=of_one, of_all=of_all, order=order, change=change, number=number)


if __name__ == "__main__":
    main()

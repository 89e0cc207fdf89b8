"""Products with Hessian, Gauss-Newton and Fisher matrices, and small matrices, as graph ops."""

"""Multilayer perceptrons as scikit-learn's estimators; needs the extra ``stepsmith[sklearn]``."""

try:
    import sklearn as _sklearn  # noqa: F401 - tells what is missing before anything else does
except ImportError as error:
    raise ImportError("stepsmith.sklearn needs scikit-learn: pip install 'stepsmith[sklearn]'") from error

from stepsmith.sklearn.classifier import StepsmithClassifier
from stepsmith.sklearn.regressor import StepsmithRegressor

__all__ = ["StepsmithClassifier", "StepsmithRegressor"]

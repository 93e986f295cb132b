"""A config to begin with."""

__all__ = ["EXAMPLE"]

EXAMPLE = """\
# stepsmith train config.toml
#
# In every table "type" names a class of stepsmith, and all other keys are its arguments, as its documentation has them.
# An argument that is left out has its default. An unknown name is an error that lists what there is.

[data]
type = "digits"              # "digits", "mnist5k", "csv" or "npz"
validation = 0.2             # part of the training rows that is held out; 0 for none
normalization = "standardize"
# type = "csv"               # numbers and one column with the target
# path = "table.csv"         # relative paths start at this file
# target = "species"         # a column's name or number
# task = "classification"    # or "regression"
# test = 0.2                 # part of the rows for the final test

[model]
# What a layer can know, such as the length of its input and the last one's output, may be left out.
layers = [
    {type = "Linear", out_features = 128, init = "he_normal"},
    {type = "ReLU"},
    {type = "Dropout", p = 0.2},
    {type = "Linear"},
]
# type = "mlp"               # a preset instead of layers
# hidden = [128, 64]

[loss]
type = "cross_entropy"       # for a classification without this table too; "mse" for a regression
label_smoothing = 0.05

[optimizer]
type = "adamw"
lr = 2e-3
weight_decay = 0.05
ema = 0.99                   # a moving average of the weights

[schedule]                   # of the learning rate, from the optimizer's lr on
type = "cosine_annealing"    # its T_max is the whole run, if it is left out
warmup = {T = 50}            # the first steps rise to it

[training]
epochs = 20
batch_size = 32
seed = 0
validation_weights = "ema"   # what is validated and tested
# precision = "bfloat16"     # of parameters and gradients
# accumulate = 2             # micro-batches a step

[regularization.MaxNorm]
limit = 4.0

[callbacks.EarlyStopping]
patience = 10
monitor = "val_accuracy"

[callbacks.Checkpoint]
every_epochs = 1
keep = 2
"""

"""A recipe of a tiny model, for tests of `annotator train`; `{steps}` is to be filled in."""

RECIPE = """
name = "tiny"
version = "0"
k = 6
[architecture]
fine_channels = 16
fine_width = 5
trunk_channels = 16
trunk_width = 3
dilations = [1, 2]
step_bp = 8
[plan]
window_bp = 1024
halo_bp = 128
pad_bp = 64
smallest_bp = 256
align_bp = 8
[radius_bp]
donor = 2
acceptor = 2
promoter = 30
[windows]
window_bp = 512
margin_bp = 64
site_fraction = 0.9
[train]
steps = {steps}
batch_windows = 8
learning_rate = 0.01
warmup_steps = 5
decay_steps = 20
ema = 0.9
checkpoint_steps = 10
validate_steps = 40
bf16 = false
"""

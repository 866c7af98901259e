"""Options that training scripts read; they describe the run, not the model."""

train = dict(
    output_dir="./output",
    init_checkpoint="",  # weights to start from: a path or URL; empty: none
    max_iter=90000,
    amp=dict(enabled=False),  # mixed precision
    ddp=dict(  # arguments of DistributedDataParallel
        broadcast_buffers=False,
        find_unused_parameters=False,
        fp16_compression=False,  # send gradients in half precision
    ),
    checkpointer=dict(period=5000, max_to_keep=100),  # iterations, files
    eval_period=5000,
    log_period=20,
    device="cuda",
)

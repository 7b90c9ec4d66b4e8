# Somebody on Kaggle: a notebook whose session ends when Kaggle wants.
cp examples/notebooks/digits.ipynb mine.ipynb
sed -i 's/%%timebox 2m/%%timebox 6s/; s/optimizer.step()/optimizer.step(); __import__(\\"time\\").sleep(0.03)/' mine.ipynb
has "timebox 6s" mine.ipynb
export KAGGLE_KERNEL_RUN_TYPE=Interactive

step "runs all cells; the boxed one stops in time"
jupyter execute mine.ipynb --output=first.ipynb
says "not complete. Run the cell again" cat first.ipynb
says "timeboxed" backprop list

step "the session ends; runs all cells in a new kernel until it is complete"
for _ in 1 2 3 4 5; do
    jupyter execute mine.ipynb --output=next.ipynb
    grep -q "not complete" next.ipynb || break
done
says "completed" backprop list

step "takes the weights home"
run=$(backprop list --json | python -c "import json, sys; print(json.load(sys.stdin)[0]['id'])")
says "model.safetensors" backprop export "$run" --to weights
python -c "from safetensors.torch import load_file; assert load_file('weights/model.safetensors')['0.weight'].shape == (64, 64)" ||
    python -c "import torch; assert torch.load('weights/model.pt', weights_only=True)['0.weight'].shape == (64, 64)"

step "reads the page on notebooks"
says "newest checkpoint" backprop docs notebooks

"""transformers' Trainer, pushing what it trains."""

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments

torch.set_num_threads(1)


def train(base, folder, repo, strategy):
    """Two steps, each saved; the names that are left in the folder."""
    torch.manual_seed(7)
    model = AutoModelForSequenceClassification.from_pretrained(base)
    model = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"]))
    tokenizer = AutoTokenizer.from_pretrained(base)
    rows = [{**tokenizer(text), "labels": number % 2} for number, text in enumerate(["good", "bad"] * 2)]
    arguments = TrainingArguments(
        folder,
        push_to_hub=True,
        hub_model_id=repo,
        hub_strategy=strategy,
        max_steps=2,
        save_strategy="steps",
        save_steps=1,
        learning_rate=1e-2,
        per_device_train_batch_size=1,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=rows, processing_class=tokenizer)
    trainer.train()
    trainer.push_to_hub()
    return sorted(path.name for path in Path(folder).iterdir())

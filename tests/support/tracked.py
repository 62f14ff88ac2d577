"""Reads what trackers have written, with the libraries' own readers or messages."""

import json


def of_wandb(workdir):
  """Returns the rows of all offline files of a run, and its ids, names, configs and summary.

  The library has no reader of its files, which are a LevelDB log of its own messages.
  """
  from wandb.proto import wandb_internal_pb2

  runs, rows, summary = [], [], {}
  for path in sorted(workdir.glob("wandb/offline-run-*/*.wandb")):
    for data in _leveldb(path.read_bytes()):
      record = wandb_internal_pb2.Record.FromString(data)
      match record.WhichOneof("record_type"):
        case "run":
          config = {item.key: json.loads(item.value_json) for item in record.run.config.update}
          runs.append((record.run.run_id, record.run.display_name, record.run.project, config))
        case "history":
          items = record.history.item
          rows.append({(i.key or i.nested_key[0]): json.loads(i.value_json) for i in items})
        case "summary":
          items = record.summary.update
          summary |= {(i.key or i.nested_key[0]): json.loads(i.value_json) for i in items}
  return runs, rows, summary


def _leveldb(contents):
  """Yields the records of a LevelDB log, whose pieces lie in blocks of 32 KiB."""
  at, record = 7, b""  # after the header of the file
  while at + 7 <= len(contents):
    if (left := 2**15 - at % 2**15) < 7:
      at += left
      continue
    size, kind = int.from_bytes(contents[at + 4 : at + 6], "little"), contents[at + 6]
    record += contents[at + 7 : at + 7 + size]
    at += 7 + size
    if kind in (1, 4):  # whole, or the last piece
      yield record
      record = b""


def of_mlflow(workdir, uri=None):
  """Returns MLflow's runs in the store of a run, each with its (step, value) by metric."""
  import mlflow

  client = mlflow.MlflowClient(tracking_uri=uri or f"sqlite:///{workdir}/mlflow.db")
  found = []
  for experiment in client.search_experiments():
    for run in client.search_runs([experiment.experiment_id]):
      history = {
        name: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
      }
      found.append((run, history))
  return found


def of_tensorboard(workdir, name="test_bound"):
  """Returns (step, value) of a scalar, as TensorBoard shows it."""
  from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

  events = EventAccumulator(str(workdir))
  events.Reload()
  return [(event.step, event.value) for event in events.Scalars(name)]

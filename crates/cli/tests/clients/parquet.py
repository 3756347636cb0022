"""Reads columns and row groups of a Parquet file over S3, by ranges. Endpoint and keys come from the environment."""

import os
import random
from urllib.parse import urlparse

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs

endpoint = urlparse(os.environ["AWS_ENDPOINT_URL"])
s3 = fs.S3FileSystem(
    endpoint_override=endpoint.netloc, scheme=endpoint.scheme, region="us-east-1", allow_bucket_creation=True, allow_bucket_deletion=True
)
s3.create_dir("tables")
random.seed(1)
rows = 200_000
table = pa.table(
    {
        "id": pa.array(range(rows)),
        "value": pa.array([random.random() for _ in range(rows)]),
        "name": pa.array([f"name {number % 977}" for number in range(rows)]),
    }
)
pq.write_table(table, "tables/part-0.parquet", filesystem=s3, row_group_size=20_000)
assert pq.read_table("tables/part-0.parquet", filesystem=s3).equals(table)
column = pq.read_table("tables/part-0.parquet", filesystem=s3, columns=["id"])
assert pc.sum(column["id"]).as_py() == rows * (rows - 1) // 2
dataset = ds.dataset("tables/", filesystem=s3, format="parquet")
found = dataset.to_table(filter=(ds.field("id") >= 150_000) & (ds.field("id") < 150_010))
assert found["id"].to_pylist() == list(range(150_000, 150_010))
info = s3.get_file_info("tables/part-0.parquet")
with s3.open_input_file("tables/part-0.parquet") as file:
    file.seek(info.size - 4)
    assert file.read(4) == b"PAR1"
s3.delete_file("tables/part-0.parquet")
s3.delete_dir("tables")
print("parquet: passed")
